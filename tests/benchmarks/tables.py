"""Tables in Markdown, as the README shows them."""

from collections.abc import Sequence


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Print a title and a table."""
    print(f"\n{title}\n\n{format_table(header, rows)}", flush=True)


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table, a line for each row and a newline at the end."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
