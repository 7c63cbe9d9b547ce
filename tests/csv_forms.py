"""Files of the same three rows in every form that is read, packed or not."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable

PLAIN = "age,city,target\n1.5,Köln,yes\n2.5,Oslo,no\n3.5,Köln,yes\n"


def archive(**members: str | bytes) -> bytes:
    """Return a zip archive of members by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in members.items():
            file.writestr(name, member)
    return content.getvalue()


SAME = {
    "as it is": PLAIN.encode(),
    "no last line end": PLAIN.rstrip().encode(),
    "Windows line ends": PLAIN.replace("\n", "\r\n").encode(),
    "old Mac line ends": PLAIN.replace("\n", "\r").encode(),
    "blank lines at the end": PLAIN.encode() + b"\n\n",
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16 without a mark": PLAIN.encode("utf-16-le"),
    "UTF-32": PLAIN.encode("utf-32"),
    "cp1252": PLAIN.encode("cp1252"),
    "gzip": gzip.compress(PLAIN.encode()),
    "bzip2": bz2.compress(PLAIN.encode()),
    "xz": lzma.compress(PLAIN.encode()),
    "zip": archive(table=PLAIN),
    "zip of a Mac": archive(**{"a/": "", "a/table": PLAIN, "__MACOSX/a": "x"}),
    "write.table": (
        '"age" "city" "target"\n"a" 1.5 "Köln" "yes"\n"b" 2.5 "Oslo" "no"\n"c" 3.5 "Köln" "yes"\n'
    ).encode(),
    "write.table without row names": PLAIN.replace(",", " ").encode(),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "stated separator": b"sep=;\n" + PLAIN.replace(",", ";").encode(),
    "remarks": b"# made by hand\n#\n" + PLAIN.encode(),
    "remark with commas": b"# by A, B, C\n" + PLAIN.encode(),
    "separators at all ends": PLAIN.replace("\n", ",\n").encode(),
    "separators at the ends of rows": PLAIN.replace("\n", ",\n")
    .replace("target,", "target")
    .encode(),
    "separator at the end of the header": PLAIN.replace(
        "target\n", "target,\n"
    ).encode(),
    "index of to_csv": "".join(
        f"{number}{line}\n"
        for number, line in zip(
            ("", 0, 1, 2), ("," + x for x in PLAIN.split("\n")), strict=False
        )
    ).encode(),
    "index after a shuffle": (
        ",age,city,target\n7,1.5,Köln,yes\n3,2.5,Oslo,no\n12,3.5,Köln,yes\n"
    ).encode(),
    "row names of write.table": (
        "age,city,target\na,1.5,Köln,yes\nb,2.5,Oslo,no\nc,3.5,Köln,yes\n"
    ).encode(),
    "single quotes": (
        "'age';'city';'target'\n1.5;'Köln';'yes'\n2.5;'Oslo';'no'\n3.5;'Köln';'yes'\n"
    ).encode(),
    "all in quotes": (
        '"age","city","target"\n"1.5","Köln","yes"\n"2.5","Oslo","no"\n"3.5","Köln","yes"\n'
    ).encode(),
    "blank lines and a remark above": ("\n\n# x\n" + PLAIN).encode(),
}

# Cells with separators, quotes and line ends, for a table of their own.
TRICKY = 'age,city,target\n1.5,"Köln, ""A""",yes\n2.5,"Os\nlo; |x|",no\n3.5,"Köln, ""A""",yes\n'
SAME_TRICKY = {
    "doubled quotes": TRICKY.encode(),
    "escaped quotes": TRICKY.replace('""', '\\"').encode(),
    "cut by semicolons": (
        'age;city;target\n1.5;Köln, "A";yes\n2.5;"Os\nlo; |x|";no\n3.5;"Köln, ""A""";yes\n'
    ).encode(),
    "names of two lines": (
        '"age","city","tar\nget"\n' + TRICKY.split("\n", 1)[1]
    ).encode(),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": lambda content: archive(table=content),
}
