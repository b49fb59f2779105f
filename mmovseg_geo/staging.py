"""A folder of outputs that appear when all are written: till then they lie in a hidden folder in it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmovseg_geo.errors import OutputError


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A hidden folder, whose files are moved to `out` when the block ends well; else nothing is left of it.

    Raises:
        OutputError: `out` cannot be written.
    """
    made = [parent for parent in (out, *out.parents) if not parent.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out))
    except OSError as error:
        raise OutputError(f"Cannot write to {out}: {error.strerror}. Choose another folder with -o.") from error
    try:
        yield folder
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = out / path.relative_to(folder)
            place.parent.mkdir(exist_ok=True)
            path.replace(place)
    except OutputError as error:
        raise OutputError(str(error).replace(str(folder), str(out))) from error
    except OSError as error:
        raise OutputError(f"Cannot write to {out}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # somebody else may use a folder that was made here
            for parent in made:
                parent.rmdir()
