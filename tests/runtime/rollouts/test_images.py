"""Container images as systems: made by the real builder of this machine where there is one, and by scripts that fail,
hang and count in its place."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from runtime.rollouts.collect import collect
from runtime.rollouts.harbor import read_harbor
from runtime.rollouts.images import Image, ImageFailed, Images, NoBuilder, builder, qualified, resolved
from runtime.rollouts.reward import Command
from runtime.rollouts.schema import Term
from runtime.rollouts.tasks import TaskRefused, load_tasks
from runtime.swarm import Swarm
from tests.runtime.rollouts.test_tasks import harbor
from tests.support import answer, call, scripted
from tests.systems import make_root
from workspace import Sandbox, WorkspaceError

pytestmark = pytest.mark.anyio

DOCKERFILE = """FROM scratch
COPY root /
WORKDIR /app
ENV COLOUR=blue PATH=/bin
RUN ["/bin/sh", "-c", "echo from the image > file.txt; mkdir deep; echo x > deep/x"]
"""
TEST = """#!/bin/bash
cmp -s out.txt /tests/expected.txt || GRADE=0
[ "$PWD $COLOUR $(own)" = "/app blue the image" ] || GRADE=0
echo '{"reward": '$GRADE'}' > /logs/verifier/reward.json
"""


@functools.cache
def unusable() -> str:
    """Why no image can be made here, "" if one can."""
    try:
        program = builder()
    except NoBuilder as reason:
        return str(reason)
    return "" if shutil.which("bwrap") else f"{program} works, and there is no bubblewrap"


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder of this machine, and a cache of the test's own."""
    if unusable():
        pytest.skip(unusable())
    monkeypatch.setenv("RAMET_IMAGES_DIR", str(tmp_path / "images"))
    # Where containers cannot be run, podman can still build. Others do not look at it.
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")


def context(folder: Path) -> Path:
    """A Harbor folder's environment, whose image holds a few programs of this machine."""
    make_root(folder / "environment" / "root")
    (folder / "environment" / "Dockerfile").write_text(DOCKERFILE)
    return folder


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, *, name: str = "docker") -> Path:
    """The only builder there is: a script, which is told its arguments. Returns where it may write."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\nHERE={folder}\n{script}\n")
    program.chmod(0o755)
    for needed in ("sh", "cat", "sleep", "tar", "touch", "bwrap", "prlimit"):
        if (found := shutil.which(needed)) and not (folder / needed).exists():
            (folder / needed).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


ID = "ab" * 32
# What a builder says and does, but for building: its image is the directory `root`.
REST = f"""
case "$1 $2" in
    "info ") exit 0 ;;
    "build "*) echo built >> $HERE/log; echo sha256:{ID} > $3 ;;
    "image inspect") echo '[{{"Id": "{ID}", "Config": {{"WorkingDir": "/app", "Env": ["A=b=c", "N"]}}}}]' ;;
    "create "*) echo "$5" > $HERE/container ;;
    "export "*) echo exported >> $HERE/log; tar -c -C $HERE/root . ;;
    "rm "*) echo "removed $3" >> $HERE/log ;;
esac
"""


def said(folder: Path) -> list[str]:
    return (folder / "log").read_text().split("\n")[:-1]


async def test_a_task_on_its_image(real: None, tmp_path: Path) -> None:
    """What lies in the image's working directory is the attempt's; commands and tests run on the image, whose name the
    rollout says; neither changes it; isolated copies have it too."""
    toml = "[environment]\nenv = { EXTRA = 'more' }\nnetwork_mode = 'no-network'\n[verifier]\nenv = { GRADE = '0.5' }\n"
    folder = context(harbor(tmp_path / "folder", TEST, toml))
    (task,) = load_tasks(str(folder))[0]

    look = "own; pwd; echo $COLOUR $EXTRA; cat file.txt deep/x; ls /usr/bin; echo done > out.txt; touch /x"

    def decide(text: str) -> str:
        told = answer(text)
        if "You are copy" in text:
            here = "the copy" in told
            return (
                call("finish", result=" ".join(told.split()))
                if here
                else call("shell", command="pwd; own; echo the copy")
            )
        if "<tool_response>" not in text:
            return call("shell", command=look)
        if "the image the copy" not in text:
            return call("fork", tasks=["look"], isolated=True)
        first = text.partition("<tool_response>\n")[2].partition("\n[")[0]
        return call("finish", result=f"{first}\n{told}")

    async with collect(
        [task], [Command("own", "own | cat")], group=3, engine=scripted(decide), directory=tmp_path / "runs"
    ) as collected:
        rollouts = [rollout async for rollout in collected]
    for rollout in rollouts:
        assert rollout.head.error == ""
        assert "the image\n/app\nblue more\nfrom the image\nx\n" in rollout.head.result
        assert "Read-only file system" in rollout.head.result
        assert "/app the image the copy" in rollout.head.result
        assert rollout.head.info == {"harbor": "folder", "image": "environment/Dockerfile"}
        assert [(term.name, term.score) for term in rollout.head.terms] == [("tests", 0.0), ("own", 1.0)]
    run = tmp_path / "runs" / "0000-01"
    assert sorted(path.name for path in run.iterdir()) == [".ramet", "deep", "file.txt", "out.txt"]
    (system,) = (tmp_path / "images").iterdir()
    assert not (system / "app" / "out.txt").exists()
    assert (system / "bin" / "own").exists()


async def test_its_tests_grade_on_the_image(real: None, tmp_path: Path) -> None:
    """They find its programs, its environment and the folder's, and the files where the image has them. A run that is
    resumed has its system again; where that is gone, a line says so."""
    toml = "[verifier]\nenv = { GRADE = '0.75' }\n"
    folder = context(harbor(tmp_path / "folder", TEST, toml))
    (folder / "tests" / "expected.txt").write_text("done\n")
    task = read_harbor(folder)
    engine = scripted(
        lambda text: call("finish", result="x") if "<tool_" in text else call("shell", command="echo done > out.txt")
    )
    async with collect([task], group=1, engine=engine, directory=tmp_path / "runs") as collected:
        (rollout,) = [rollout async for rollout in collected]
    assert rollout.head.terms == (Term(name="tests", agent="a1", score=0.75, shared=True),)

    assert task.image is not None
    system = await Images().system(task.image)
    (tmp_path / "work").mkdir()
    async with Swarm(engine, tmp_path / "work", system=system) as swarm:
        layout = swarm.layout
    async with Swarm(engine, tmp_path / "work", resume=layout) as resumed:
        agent = await resumed.start("look")
        await agent.result()
    assert (tmp_path / "work" / "out.txt").read_text() == "done\n"
    shutil.rmtree(system.root)
    with pytest.raises(WorkspaceError, match=r"system.json: root: .* is gone"):
        async with Swarm(engine, tmp_path / "work", resume=layout):
            pass


async def test_an_image_by_its_name(real: None, tmp_path: Path) -> None:
    """Is taken from where the builder keeps its own; the folder's files come before those of its working directory."""
    folder = context(harbor(tmp_path / "folder"))
    tag = "localhost/ramet-test-image:1"
    program = builder()
    await anyio.run_process([program, "build", "-q", "-t", tag, str(folder / "environment")])
    try:
        (folder / "environment" / "Dockerfile").unlink()
        shutil.rmtree(folder / "environment" / "root")
        (folder / "environment" / "file.txt").write_text("from the folder\n")
        (folder / "task.toml").write_text(f"[environment]\ndocker_image = '{tag}'\n")
        task = read_harbor(folder)
        assert task.info["image"] == tag
        engine = scripted(lambda text: call("finish", result="x"))
        async with collect([task], group=1, engine=engine, directory=tmp_path / "runs") as collected:
            assert [rollout.head.error async for rollout in collected] == [""]
        run = tmp_path / "runs" / "0000-00"
        assert (run / "file.txt").read_text() == "from the folder\n"
        assert (run / "deep" / "x").read_text() == "x\n"
    finally:
        await anyio.run_process([program, "rmi", "-f", tag], check=False)


async def test_a_build_that_fails(real: None, tmp_path: Path) -> None:
    """Is said once, in the builder's last words, in each attempt; the others go on."""
    folder = context(harbor(tmp_path / "bad"))
    (folder / "environment" / "Dockerfile").write_text(DOCKERFILE + 'RUN ["/bin/sh", "-c", "exit 7"]\n')
    tasks = [read_harbor(folder), read_harbor(harbor(tmp_path / "good"))]
    engine = scripted(lambda text: call("finish", result="x"))
    async with collect(tasks, group=2, engine=engine) as collected:
        rollouts = [rollout async for rollout in collected]
    bad = [rollout.head.error for rollout in rollouts if rollout.head.task == "bad"]
    assert len(bad) == 2
    for error in bad:
        assert error.startswith(f"{folder}/environment/Dockerfile: the build failed: ")
        assert "\n" not in error
    assert [rollout.head.error for rollout in rollouts if rollout.head.task == "good"] == ["", ""]


def test_without_a_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs an image is refused, with the field and why neither program works; what can do without is taken."""
    fake(tmp_path / "path", monkeypatch, "echo no daemon here >&2; exit 1")
    reason = r"neither docker nor podman works here \(docker: no daemon here; podman: is not installed\)"
    folder = harbor(tmp_path / "f", docker="FROM x\n# RUN no\nCOPY a \\\n  RUN\nRUN y")
    with pytest.raises(TaskRefused, match=rf"/Dockerfile:5: RUN needs a container image, and {reason}; --without"):
        read_harbor(folder)
    (folder / "environment" / "Dockerfile").write_text("FROM x\nCOPY . .\n")
    assert read_harbor(folder).image is None
    (folder / "task.toml").write_text("[environment]\ndocker_image = 'x'")
    with pytest.raises(
        TaskRefused, match=rf"task.toml: environment.docker_image needs a container image, and {reason}"
    ):
        read_harbor(folder)
    task = read_harbor(folder, without_image=True)
    assert (task.image, task.directory) == (None, folder / "environment")


def test_podman_where_docker_has_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the two that answers."""
    fake(tmp_path / "path", monkeypatch, "exit 1")
    fake(tmp_path / "path", monkeypatch, "exit 0", name="podman")
    assert builder() == str(tmp_path / "path" / "podman")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A builder whose image holds a few programs, and counts what it is told."""
    make_root(tmp_path / "path" / "root")
    return fake(tmp_path / "path", monkeypatch, REST)


async def test_it_is_made_once(built: Path, tmp_path: Path) -> None:
    """However many wait for it; what was unpacked is there for the next collection too; no container stays."""
    image = Image(source="f", context=tmp_path, environment=(("A", "own"),))
    images = Images(tmp_path / "images")
    systems = []

    async def attempt() -> None:
        systems.append(await images.system(image))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(attempt)
    assert [system.root for system in systems] == [tmp_path / "images" / ID] * 8
    assert systems[0].environment == {"A": "own", "N": ""}
    container = (built / "container").read_text().strip()
    assert said(built) == ["built", "exported", f"removed {container}"]
    await Images(tmp_path / "images").system(image)
    assert said(built)[3:] == ["built"]
    assert [path.name for path in (tmp_path / "images").iterdir()] == [ID]
    (tmp_path / "work").mkdir()
    done = await Sandbox(tmp_path / "work", system=systems[0]).run("own", timeout_s=60, output_path=tmp_path / "o")
    assert done.output == "the image\n"


@pytest.mark.parametrize(
    ("instead", "said_"),
    [
        ('"build "*) echo one; echo oh no >&2; exit 3', "f: the build failed: oh no"),
        ('"build "*) exit 3', "f: the build failed: /.*docker ended with 3"),
        ('"build "*) exit 0', "f: the build left no image: No such file"),
        ('"build "*) sleep 60', "f: the image was not made in 0.5 s"),
        ('"image inspect") echo "[]"', "f: sha256:abab.* cannot be looked at: "),
        ('"image inspect") echo \'[{"Id": "../x"}]\'', "f: an image without an id: '../x'"),
        (f'"image inspect") echo \'[{{"Id": "{ID}"}}]\'', "f: the image's working directory is /, so nothing says"),
        ('"create "*) echo full >&2; exit 1', "f: no container can be made of the image: full"),
        ('"export "*) echo half; echo broken >&2; exit 1', "f: the image's files cannot be had: broken"),
        ('"export "*) echo half; exit 0', "f: the image's files cannot be unpacked: no whole archive"),
        ('"export "*) sleep 60', "f: the image was not made in 0.5 s"),
    ],
)
async def test_what_goes_wrong(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: str, said_: str
) -> None:
    """One line names the file and what the builder said last; all who ask again get it, and nothing is left over."""
    fake(built, monkeypatch, f'case "$1 $2" in {instead}; exit ;; esac\n{REST}')
    images = Images(tmp_path / "images")
    slow = "sleep" in instead
    image = Image(source="f", context=tmp_path, timeout_s=0.5 if slow else 60)
    for _ in range(2):
        with pytest.raises(ImageFailed, match=said_) as refused:
            await images.system(image)
        assert "\n" not in str(refused.value)
    left = list((tmp_path / "images").iterdir()) if (tmp_path / "images").exists() else []
    assert [path.name for path in left] == ([ID] if "WorkingDir" in said_ or "working directory" in said_ else [])


async def test_cancelled_it_leaves_nothing(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a process nor a container nor half a system; and it can be made afterwards."""
    hangs = '"export "*) trap "" TERM; touch $HERE/began; cat $HERE/root/bin/bash; while :; do sleep 1; done'
    fake(built, monkeypatch, f'case "$1 $2" in {hangs}; exit ;; esac\n{REST}')
    monkeypatch.setattr("runtime.rollouts.images.END_S", 0.2)
    image, images = Image(source="f", context=tmp_path), Images(tmp_path / "images")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(images.system, image)
            while not os.path.exists(built / "began"):  # noqa: ASYNC110, ASYNC240 - a file that a process makes
                await anyio.sleep(0.01)
            scope.cancel()
    assert list((tmp_path / "images").iterdir()) == []
    assert said(built)[-1].startswith("removed ramet-")
    fake(built, monkeypatch, REST)
    assert (await images.system(image)).root.name == ID
    await checkpoint()


def test_where_a_path_leads(tmp_path: Path) -> None:
    """Links lead as they do in the system, and never out of it."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "up").symlink_to("../../../a")
    (tmp_path / "abs").symlink_to("/up/b")
    (tmp_path / "round").symlink_to("round")
    assert [str(resolved(tmp_path, path)) for path in ("/abs/c", "up", "/x/../a", "/", "a/../../..")] == [
        "/a/b/c",
        "/a",
        "/a",
        "/",
        "/",
    ]
    with pytest.raises(ImageFailed, match="circle"):
        resolved(tmp_path, "/round/x")


def test_names_of_images() -> None:
    """One without a registry is docker's, also for podman."""
    names = ("python:3.12", "org/name@sha256:0", "localhost/x", "ghcr.io/a/b:1", "host:5000/x")
    whole = ["docker.io/library/python:3.12", "docker.io/org/name@sha256:0", *names[2:]]
    assert [qualified(name) for name in names] == whole
