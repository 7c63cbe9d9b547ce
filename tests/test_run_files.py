"""Files of a run in a local datastore."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# In a process of its own, because importing Metaflow warns, and tests take warnings for errors.
PROGRAM = """
import sys
from pathlib import Path
from types import SimpleNamespace as Some

from metaflow.plugins.datastores.local_storage import LocalStorage

import run_files

folder, written = Path(sys.argv[1]), []
run_files.current = Some(flow_name="TrainFlow", run_id="1")
write = LocalStorage._atomic_write

def watch(path, content, **options):
    written.append(type(content).__name__)
    write(path, content, **options)

LocalStorage._atomic_write = staticmethod(watch)
store = LocalStorage(str(folder / "store"))
files = run_files.RunFiles(Some(_datastore=Some(_storage_impl=store)))
kept = files.get(files.put(folder / "rows.npy"))
print(written, kept.read_bytes() == (folder / "rows.npy").read_bytes())
"""


def test_a_local_store_keeps_a_file_without_reading_it_into_memory(
    tmp_path: Path,
) -> None:
    (tmp_path / "rows.npy").write_bytes(b"rows" * 5000)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT / "flows",
        capture_output=True,
        check=True,
        text=True,
    )

    assert done.stdout.split("\n")[-2] == "['mmap'] True"
