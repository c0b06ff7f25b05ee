"""Container images, made into systems on which our own sandbox runs commands.

    docker build | pull  ->  image inspect  ->  create, export  ->  <cache>/images/<id>/  ->  workspace.System

Owns the making: docker builds or fetches an image (podman, where docker is not there or has no daemon), its file system
is unpacked once into the user's cache (RAMET_IMAGES_DIR names another place), and from then on neither is needed: what
runs on it runs in bubblewrap, like everything else. Invariants: a directory named after an image is whole; an image is
made once for a collection, whatever number of attempts wait for it, and what went wrong is told to all of them; what is
cancelled leaves no container and no process behind. Does not know what a task is. What a Dockerfile runs is confined by
docker, has a network, and is run only when an attempt begins.

To free the disk, delete the cache's `images` directory while nothing runs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

import anyio
import msgspec
import platformdirs
from anyio import to_thread
from anyio.abc import ByteReceiveStream, Process

from workspace import NOT_JSON, FileError, System, unpack

__all__ = ["BUILD_S", "Image", "ImageFailed", "Images", "NoBuilder", "builder", "images_directory"]

BUILD_S = 600.0  # Harbor's own default
BUILDERS = ("docker", "podman")
LOOK_S = 30.0  # for a daemon to answer: it may be starting
END_S = 10.0  # for a builder to clean up after itself once it is told to stop
EXPORT_END_S = 2.0  # between the end of an archive and that of who wrote it
REMOVE_S = 30.0  # to remove a container
AT_ONCE = 2  # images that are made at the same time
# Bounds on what an archive may do to the disk: chosen, not measured.
MOST_BYTES = 64 << 30
MOST_ENTRIES = 5_000_000
_TAIL_BYTES = 8192
_SHOWN_CHARS = 300
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_NOT_FILES = ("dev", "proc")  # a sandbox has its own


class ImageFailed(ValueError):
    """An image that cannot be made, or not be used. One line, which names the file and the field."""


class NoBuilder(ImageFailed):
    """Nothing here makes images."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """Which image: that of a Dockerfile in the directory `context`, or else the one with this `name`.

    `source` is the file and field that ask for it. `workdir` and `environment` go before the image's own. All of it is
    made within `timeout_s`.
    """

    source: str
    context: Path | None = None
    name: str = ""
    workdir: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    timeout_s: float = BUILD_S


class Images:
    """The systems of a collection's images, each made when it is first asked for."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or images_directory()
        self._made: dict[Image, System | ImageFailed] = {}
        self._locks: defaultdict[Image, anyio.Lock] = defaultdict(anyio.Lock)
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def system(self, image: Image) -> System:
        """The system of this image. Raises ImageFailed."""
        async with self._locks[image]:
            if image not in self._made:
                async with self._limiter:
                    self._made[image] = await self._make(image)
        made = self._made[image]
        if isinstance(made, ImageFailed):
            raise ImageFailed(str(made)) from made
        return made

    async def _make(self, image: Image) -> System | ImageFailed:
        try:
            with anyio.fail_after(image.timeout_s):
                program = await to_thread.run_sync(builder, abandon_on_cancel=True)
                return await _Maker(program, self._directory).system(image)
        except TimeoutError:
            return ImageFailed(f"{image.source}: the image was not made in {image.timeout_s:g} s")
        except ImageFailed as error:
            return ImageFailed(f"{image.source}: {error}")
        except OSError as error:
            return ImageFailed(f"{image.source}: the image cannot be kept in {self._directory}: {error.strerror}")


def images_directory() -> Path:
    """Where unpacked images are kept."""
    named = os.environ.get("RAMET_IMAGES_DIR")
    return Path(named) if named else platformdirs.user_cache_path("ramet") / "images"


def builder() -> str:
    """The program that makes images here. Blocks. Raises NoBuilder, which says why there is none."""
    reasons = []
    for name in BUILDERS:
        program = shutil.which(name)
        problem = _problem(program) if program else "is not installed"
        if program and not problem:
            return program
        reasons.append(f"{name}: {problem}")
    raise NoBuilder(f"neither docker nor podman works here ({'; '.join(reasons)})")


@cache
def _problem(program: str) -> str:
    """Why a builder does not work, "" where it does. Asked once: a daemon may take its time to say that it is not."""
    try:
        # It needs a daemon, or podman's store, and nothing else: on a busy machine it took podman 2 s, and `info` 11.
        told = subprocess.run(
            [program, "images", "--quiet"], stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, timeout=LOOK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"says nothing for {LOOK_S:g} s"
    except OSError as error:
        return error.strerror or "cannot be started"
    return "" if told.returncode == 0 else _last_line(told.stderr) or f"ended with {told.returncode}"


class _Config(msgspec.Struct, frozen=True):
    working_dir: str | None = msgspec.field(default=None, name="WorkingDir")
    env: list[str] | None = msgspec.field(default=None, name="Env")


class _Inspected(msgspec.Struct, frozen=True):
    """What of `image inspect` is used."""

    id: str = msgspec.field(name="Id")
    config: _Config = msgspec.field(default_factory=_Config, name="Config")


class _Maker:
    """Makes one image with a builder: docker and podman take the same command lines."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory

    async def system(self, image: Image) -> System:
        if image.context is not None:
            found = await self._inspected(await self._built(image.context))
        else:
            found = await self._named(image.name)
        match = _ID.fullmatch(found.id)
        if match is None:
            raise ImageFailed(f"an image without an id: {found.id[:80]!r}")
        root = self._directory / match[1]
        if not await anyio.Path(root).is_dir():
            await self._unpacked(found.id, root)
        named = image.workdir or found.config.working_dir or "/"
        workdir = await to_thread.run_sync(resolved, root, named)
        if len(workdir.parts) < 2 or workdir.parts[1] in _NOT_FILES:
            raise ImageFailed(
                f"the image's working directory is {workdir}, so nothing says which of its files are the task's"
                " (environment.workdir can)"
            )
        pairs = (pair.partition("=") for pair in found.config.env or ())
        environment = {name: value for name, _, value in pairs if name} | dict(image.environment)
        return System(root=root, workdir=workdir, environment=environment)

    async def _built(self, context: Path) -> str:
        with tempfile.TemporaryDirectory(prefix="ramet-image-") as made:
            path = Path(made, "id")
            await self._run("build", "--iidfile", str(path), str(context), of="the build failed")
            try:
                return (await anyio.Path(path).read_text()).strip()
            except OSError as error:
                raise ImageFailed(f"the build left no image: {error.strerror}") from error

    async def _named(self, name: str) -> _Inspected:
        with suppress(ImageFailed):  # it is not here yet
            return await self._inspected(name)
        whole = qualified(name)  # docker would take the short name for that too; podman asks, or refuses
        await self._run("pull", whole, of=f"{name} cannot be fetched")
        return await self._inspected(whole)

    async def _inspected(self, name: str) -> _Inspected:
        said = bytearray()
        await self._run("image", "inspect", name, of=f"{name} cannot be looked at", output=said.extend)
        try:
            return msgspec.json.decode(said, type=list[_Inspected])[0]
        except (*NOT_JSON, IndexError) as error:
            raise ImageFailed(f"{name} cannot be looked at: {error}") from error

    async def _unpacked(self, name: str, root: Path) -> None:
        """Unpack the image's files: next to where they go, so that what is there is whole."""
        container = f"ramet-{uuid.uuid4().hex}"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = Path(tempfile.mkdtemp(prefix=f".{root.name[:12]}-", dir=self._directory))
        try:
            try:
                # It is never started: what it would run is only there because some images name nothing.
                create = ("create", "--network", "none", "--name", container, name, "true")
                await self._run(*create, of="no container can be made of the image")
                await self._exported(container, scratch)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(REMOVE_S), suppress(ImageFailed):
                    await self._run("rm", "--force", container, of="")
            await to_thread.run_sync(_settle, scratch, root)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(shutil.rmtree, scratch, True)

    async def _exported(self, container: str, target: Path) -> None:
        failed: list[ImageFailed | OSError] = []
        over = anyio.Event()
        read, write = os.pipe()

        async def export() -> None:
            try:
                await self._run("export", container, of="the image's files cannot be had", pipe=write)
            except ImageFailed as error:
                failed.insert(0, error)  # what was made of half an archive is of no interest then
            finally:
                over.set()

        with os.fdopen(read, "rb") as archive:
            async with anyio.create_task_group() as group:
                group.start_soon(export)
                try:
                    limits = {"most_bytes": MOST_BYTES, "most_entries": MOST_ENTRIES}
                    # On cancellation the export ends, with it the archive, and with that the thread.
                    await to_thread.run_sync(partial(unpack, archive, target, **limits))
                except (FileError, OSError) as error:
                    refusal = ImageFailed(f"the image's files cannot be unpacked: {error}")
                    failed.append(error if isinstance(error, OSError) else refusal)
                    with anyio.move_on_after(EXPORT_END_S):  # it may have failed itself, and says so in a moment
                        await over.wait()
                    group.cancel_scope.cancel("there is nobody to read the archive")
        if failed:
            raise failed[0]

    async def _run(
        self, *arguments: str, of: str, output: Callable[[bytes], object] | None = None, pipe: int | None = None
    ) -> None:
        """Run the builder. Its output goes to `output` or into `pipe`, which is closed; without, its end is kept for
        the error. Raises ImageFailed, with `of` and the last line it wrote.

        On cancellation it is told to stop, and killed, with all it started, if it does not. Podman's export is one that
        does not, where nobody reads what it writes, and holds its container until then.
        """
        try:
            process = await anyio.open_process(
                [self._program, *arguments],
                stdin=DEVNULL,
                stdout=PIPE if pipe is None else pipe,
                stderr=STDOUT if pipe is None and output is None else PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ImageFailed(f"{of}: {self._program} cannot be started: {error.strerror}") from error
        finally:
            if pipe is not None:
                os.close(pipe)
        tail = bytearray()

        def keep(data: bytes) -> None:
            tail.extend(data)
            del tail[:-_TAIL_BYTES]

        try:
            async with anyio.create_task_group() as group:
                if process.stdout is not None:
                    group.start_soon(_read, process.stdout, output or keep)
                if process.stderr is not None:
                    group.start_soon(_read, process.stderr, keep)
                code = await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)
        if code != 0:
            raise ImageFailed(f"{of}: {_last_line(bytes(tail)) or f'{self._program} ended with {code}'}")


async def _read(stream: ByteReceiveStream, keep: Callable[[bytes], object]) -> None:
    async for data in stream:
        keep(data)


async def _end(process: Process) -> None:
    """See a process over, with what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with anyio.move_on_after(END_S):
                await process.wait()
    await process.aclose()


def _settle(scratch: Path, root: Path) -> None:
    """Give what is whole its name, unless another process was first. Raises OSError."""
    try:
        scratch.rename(root)
    except OSError:
        if not root.is_dir():
            raise


def qualified(name: str) -> str:
    """An image's name with its registry, which docker takes to be its own where there is none."""
    first, slash, _ = name.partition("/")
    if slash and (first == "localhost" or not {".", ":"}.isdisjoint(first)):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def resolved(root: Path, path: str) -> Path:
    """Where `path` leads in the system at `root`, links followed as they would be there. Raises ImageFailed."""
    left, found = [*reversed(Path("/", path).parts[1:])], Path("/")
    for _ in range(1000):
        if not left:
            return found
        name = left.pop()
        if name == "..":
            found = found.parent
            continue
        there = root / (found / name).relative_to("/")
        if there.is_symlink():
            target = Path(os.readlink(there))
            found = Path("/") if target.is_absolute() else found
            left += reversed([part for part in target.parts if part != "/"])
        else:
            found /= name
    raise ImageFailed(f"{path}: links that lead in a circle")


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return " ".join(lines[-1].split())[:_SHOWN_CHARS] if lines else ""
