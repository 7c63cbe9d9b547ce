"""Copies tables from S3. Metaflow's own client does it, so its endpoint and credentials apply."""

import shutil
from pathlib import Path


def fetch_table(url: str, folder: Path) -> Path:
    """Copy a file, or all files below a prefix, into a folder.

    Parameters
    ----------
    url : str
        s3://BUCKET/KEY of a file, whose name has a suffix, or s3://BUCKET/PREFIX of several files.
    folder : Path
        Folder to copy to.

    Returns
    -------
    Path
        The copy: a file, or a folder with the files.

    Raises
    ------
    DataError
        If nothing is there, or S3 is not reached or refuses.
    """
    from metaflow import S3
    from metaflow.exception import MetaflowException

    from training.errors import DataError

    prefix = f"{url.rstrip('/')}/"
    name = prefix.split("/")[-2]
    is_file = "." in name and not url.endswith("/")
    try:
        with S3(tmproot=str(folder)) as s3:
            objects = [s3.get(url)] if is_file else s3.get_recursive([prefix])
            for found in objects:
                path = folder / name / found.url.removeprefix(prefix)
                path = folder / name if is_file else path
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(found.path, path)
    except MetaflowException as error:
        reason = f"{error.headline}: {error}".splitlines()[0]
        raise DataError(f"--data {url!r} cannot be read: {reason}") from None
    if not objects:
        raise DataError(f"--data {url!r}: no file is below this prefix")
    return folder / name
