"""`siperb new`: a plugin's package to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from siperb_core.cli.output import FINE, USAGE, CommandError
from siperb_core.testing.scaffold import scaffold


def new(
    what: Annotated[Literal["connection", "transcoder"], Parameter(help="The kind of plugin.")],
    name: Annotated[str, Parameter(help='Its name, "acme" say: small letters, digits and "_".')],
    *,
    dir: Annotated[Path, Parameter(name="--dir", help="Where its folder is made.")] = Path(),
) -> int:
    """Write a working plugin package with passing tests."""
    try:
        folder = scaffold(what, name, dir)
    except FileExistsError as error:
        raise CommandError(f"{error.filename} is there already: choose another name or --dir", USAGE) from error
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    except OSError as error:
        raise CommandError(f"{dir} cannot be written to ({error.strerror}): choose another --dir", USAGE) from error
    print(folder)
    print(f"Next: cd {folder} && pip install -e '.[test]' && pytest")
    return FINE
