"""Mailboxes: letters as files that people and programs can read."""

import contextlib
import email.policy
import mailbox
import os
import random
import re
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from workspace import HUMAN, MAX_LETTER_BYTES, BadName, Letter, MailFailed, Post, RunLayout, harmless
from workspace._letters import Malformed, one_line, parse, render

RUN = "20261122-081501-k3f9"
NOON = 1_795_348_800.0
# In memory where possible: thousands of files would wait for the disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# A busy machine takes any time for an example.
unhurried = settings(deadline=None)
HEADERS = {
    *("from", "to", "subject", "date", "message-id", "in-reply-to"),
    *("mime-version", "content-type", "content-transfer-encoding"),
}

# Lone surrogates, controls and separators included.
any_text = st.text(st.characters(codec=None, categories=None))
hostile = st.one_of(
    any_text,
    st.lists(
        st.sampled_from(
            ["\n", "\r\n", "\r", "Bcc: x", "From: root", "=?utf-8?q?=0a?=", "=?", "?=", " ", "\t", "ü", "@", RUN, "."]
        )
    ).map("".join),
)


def letter(key: str = "a1.t1.c0", **fields: object) -> Letter:
    given_fields = {"sender": "a1", "to": ("a2",), "subject": "totals", "body": "42", "date": NOON, **fields}
    return Letter(id=key, **given_fields)  # type: ignore[arg-type]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout.create(tmp_path, name=RUN)


@pytest.fixture
def post(layout: RunLayout) -> Post:
    return Post(layout)


@contextlib.contextmanager
def scratch() -> Iterator[RunLayout]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield RunLayout.create(directory, name=RUN)


def drop(layout: RunLayout, name: str, content: bytes | str, *, into: str = "a2") -> Path:
    """What `cat > new/name` does."""
    path = Post(layout).open(into) / "new" / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_letter_reaches_everybody_it_is_to(layout: RunLayout, post: Post) -> None:
    """Each recipient has it as it was sent, with the file it lies in, until it is read."""
    sent = letter(to=("a2", "dora", "a2"), in_reply_to="a2.t9.c1", date=NOON + 0.625)
    assert post.deliver(sent) == ("a2", "dora")
    for name in ("a2", "dora"):
        (found,) = post.unread(name)
        path = layout.mail(name) / "new" / sent.id
        assert found == Letter(
            id="a1.t1.c0",
            sender="a1",
            to=("a2", "dora", "a2"),
            subject="totals",
            body="42",
            date=NOON + 0.625,
            in_reply_to="a2.t9.c1",
            path=path,
        )
        post.read(name, [sent.id])
        assert post.unread(name) == []
        (kept,) = post.letters(name)
        assert kept.path == layout.mail(name) / "cur" / f"{sent.id}:2,S"
        assert kept.body == "42"
    assert post.names() == ["a2", "dora"]
    assert list(layout.mail("a2").joinpath("tmp").iterdir()) == []


def test_the_file_is_a_message_that_can_be_read(layout: RunLayout, post: Post) -> None:
    """Headers as people know them, an empty line, and the text as it is."""
    post.deliver(letter(body="north: 17\nsüd: 25", in_reply_to="a2.t1.c0"))
    assert layout.mail("a2").joinpath("new", "a1.t1.c0").read_text() == (
        f"From: a1@{RUN}\n"
        f"To: a2@{RUN}\n"
        "Subject: totals\n"
        "Date: Sun, 22 Nov 2026 12:00:00 -0000\n"
        f"Message-ID: <a1.t1.c0@{RUN}>\n"
        f"In-Reply-To: <a2.t1.c0@{RUN}>\n"
        "MIME-Version: 1.0\n"
        'Content-Type: text/plain; charset="utf-8"\n'
        "Content-Transfer-Encoding: 8bit\n"
        "\n"
        "north: 17\nsüd: 25\n"
    )


def test_any_mail_reader_opens_it(layout: RunLayout, post: Post) -> None:
    """The standard library's Maildir lists read and unread letters; its strict parser finds no defect in a header."""
    post.deliver(letter("one", subject="Überblick " * 12, to=tuple(f"a{n}" for n in range(40))))
    post.deliver(letter("two", subject="=?utf-8?q?not encoded?="))
    post.read("a2", ["one"])
    box = mailbox.Maildir(layout.mail("a2"), create=False)
    assert sorted(box.keys()) == ["one", "two"]
    assert box["one"].get_flags() == "S"
    assert box["two"].get_subdir() == "new"
    for key, subject in [("one", ("Überblick " * 12).strip()), ("two", "=?utf-8?q?not encoded?=")]:
        message = message_from_bytes(box.get_bytes(key), policy=email.policy.default)
        assert message["Subject"] == subject
        assert message["From"].addresses[0].username == "a1"
        assert message["To"].addresses[0].domain == RUN
        assert message["Date"].datetime.timestamp() == NOON
        assert message.get_content() == "42\n"
        assert not message.defects
        assert not any(value.defects for value in message.values())
    box.clean()


@unhurried
@given(subject=hostile, body=hostile, sender=hostile, reply=st.sampled_from(["", "a2.t1.c0", "x y@z", "=?ü"]))
def test_any_text_stays_where_it_was_put(subject: str, body: str, sender: str, reply: str) -> None:
    """Whatever a model writes, it comes back harmless, in its own place, and makes no header."""
    sent = letter(subject=subject, body=body, sender=sender, to=("a2", "a3"), in_reply_to=reply)
    data = render(sent, RUN)
    found = parse(data, RUN)
    assert (found.id, found.to, found.in_reply_to) == (sent.id, sent.to, reply)
    assert found.subject == one_line(subject)
    assert found.body == harmless(body)
    assert found.sender == (one_line(sender) or "unknown")
    head, _, rest = data.partition(b"\n\n")
    assert head.isascii()
    assert rest == (harmless(body) + "\n").encode()
    names = [line.partition(b":")[0].lower().decode() for line in re.split(rb"\n(?![ ])", head)]
    assert len(names) == len(set(names))
    assert set(names) == HEADERS - (set() if reply else {"in-reply-to"})
    strict = message_from_bytes(data, policy=email.policy.default)
    assert {name.lower() for name in strict} == set(names)
    assert strict["Subject"].strip() == one_line(subject)


@unhurried
@given(any_text)
def test_a_line_is_one_short_line(text: str) -> None:
    """What becomes a header holds no line break and no control, is not longer than 200 letters, and stays as it is."""
    line = one_line(text * 40)
    assert len(line) <= 200
    assert len(line.splitlines()) <= 1
    assert line == line.strip() == one_line(line)
    line.encode()


FRAGMENTS = [
    *("From: ", "Subject: ", "Content-Type: ", "text/plain", "text/html", "multipart/mixed; boundary=b", "; charset="),
    *(
        "message/rfc822",
        "Content-Transfer-Encoding: ",
        "base64",
        "quoted-printable",
        "x-uuencode",
        "utf-16",
        "hex",
        "\0",
    ),
    *(
        "--b\n",
        "--b--\n",
        "=?utf-8?b?",
        "?=",
        "=?x?q?",
        "\n",
        "\r\n",
        "\n\n",
        "a",
        ":",
        " ",
        '"',
        "*0*=",
        "''%ff",
        "\xff",
    ),
]


@settings(unhurried, max_examples=300)
@example(b"From: a\nContent-Type: multipart/mixed; boundary*=\0''x\n\nhi")
@example(b"From: a\nContent-Type: text/plain; charset*=\0''x\n\nhi")
@given(st.one_of(st.binary(), st.lists(st.sampled_from(FRAGMENTS)).map(lambda parts: "".join(parts).encode("latin-1"))))
def test_any_bytes_are_a_letter_or_malformed(data: bytes) -> None:
    """Nothing that somebody puts into a mailbox breaks the reading of it, and what is read is harmless."""
    try:
        found = parse(data, RUN)
    except Malformed:
        return
    assert found.body == harmless(found.body)
    for line in (found.sender, found.subject, found.in_reply_to, *found.to):
        assert line == one_line(line)


def test_a_plain_file_is_a_letter_from_a_person(layout: RunLayout, post: Post) -> None:
    """`echo hi > new/x` says hi; a colon or a mark of some editor makes no header of it."""
    for name, text in [
        ("x", "hi\n"),
        ("colon", "Question: how many?\n"),
        ("like a header", "Date: tomorrow, not today\n"),
        ("windows.txt", "\ufeffone\r\ntwo\r\n"),
        ("ünïcode ", "naïve\x1b[2J\n\nSubject: nothing"),
    ]:
        drop(layout, name, text)
    found = {item.body: item for item in post.unread("a2")}
    assert set(found) == {
        "hi",
        "Question: how many?",
        "Date: tomorrow, not today",
        "one\ntwo",
        "naïve␛[2J\n\nSubject: nothing",
    }
    assert {(item.sender, item.to, item.subject) for item in found.values()} == {(HUMAN, ("a2",), "")}
    assert re.fullmatch("x-[0-9a-f]{12}", found["hi"].id)
    assert re.fullmatch("like-a-header-[0-9a-f]{12}", found["Date: tomorrow, not today"].id)
    post.read("a2", [item.id for item in found.values()])
    assert post.unread("a2") == []
    assert {item.id for item in post.letters("a2")} == {item.id for item in found.values()}


def test_a_message_from_a_mail_program_is_a_letter(layout: RunLayout, post: Post) -> None:
    """Headers are decoded, the plain text is taken out of its wrapping, other text is decoded from its charset."""
    drop(
        layout,
        "1",
        "From: Dora =?iso-8859-1?q?Gr=FCn?= <dora@example.org>\nTo: a2\nSubject: Re:\n totals\n"
        f"In-Reply-To: <a1.t1.c0@{RUN}>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n"
        "--b\nContent-Type: text/html\n\n<p>no\n"
        "--b\nContent-Type: text/plain; charset=iso-8859-1\n"
        "Content-Transfer-Encoding: quoted-printable\n\ns=FCd\n--b--\n",
    )
    drop(layout, "2", "From: dora\nSubject: süd\n\nraw UTF-8: ü\n")
    first, second = sorted(post.unread("a2"), key=lambda item: item.id)
    assert (first.sender, first.to) == ("Dora Grün <dora@example.org>", ("a2",))
    assert (first.subject, first.body, first.in_reply_to) == ("Re: totals", "süd", "a1.t1.c0")
    assert (second.sender, second.subject, second.body) == ("dora", "süd", "raw UTF-8: ü")


def test_the_same_name_again_is_another_letter(layout: RunLayout, post: Post) -> None:
    """Somebody who drops `x` twice has said two things, whether or not the first was read before."""
    drop(layout, "x", "one")
    (first,) = post.unread("a2")
    post.read("a2", [first.id])
    drop(layout, "x", "two")
    (second,) = post.unread("a2")
    assert second.id != first.id
    post.read("a2", [second.id, first.id])
    assert [item.body for item in post.letters("a2")] == ["one", "two"]


def test_what_a_mail_reader_moved_is_read(layout: RunLayout, post: Post) -> None:
    """A letter that a person has read in an agent's mailbox is unread no more, and still the same letter."""
    path = drop(layout, "my note", "hi")
    (found,) = post.unread("a2")
    path.rename(path.parents[1] / "cur" / "my note:2,S")
    assert post.unread("a2") == []
    assert [item.id for item in post.letters("a2")] == [found.id]


def test_what_is_no_letter_is_set_aside(layout: RunLayout, post: Post, tmp_path: Path) -> None:
    """A warning names each, none is followed or opened, all are kept, and the letters among them are returned."""
    new = post.open("a2") / "new"
    secret = tmp_path / "secret"
    secret.write_text("From: root\n\nsecret")
    bad = {
        "bytes": b"\xff\xfe\x00h",
        "nobody": b"Subject: hi\n\nwho am I?",
        "blank": b"From:  \n\nhello",
        "large": b"x" * (MAX_LETTER_BYTES + 1),
        "html": b"From: dora\nContent-Type: text/html\n\n<p>hi",
        "charset": b"From: dora\nContent-Type: text/plain; charset=x-unknown\n\nhi",
        "deep": b"From: a\nContent-Type: multipart/mixed; boundary=b\n\n"
        + b"--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n" * 2000,
    }
    for name, content in bad.items():
        drop(layout, name, content)
    (new / "link").symlink_to(secret)
    (new / "directory").mkdir()
    (new / "directory" / "inside").write_text("kept")
    os.mkfifo(new / "fifo")
    post.deliver(letter())
    drop(layout, ".editor.swp", b"\xff")
    drop(layout, "empty", b"")
    with capture_logs() as logs:
        assert [item.id for item in post.unread("a2")] == ["a1.t1.c0"]
    assert {Path(line["path"]).name for line in logs} == {*bad, "link", "directory", "fifo"}
    assert all(line["log_level"] == "warning" and line["reason"] for line in logs)
    aside = layout.mail("a2") / "bad"
    assert sorted(path.name for path in aside.iterdir()) == sorted([*bad, "link", "directory", "fifo"])
    assert (aside / "link").is_symlink()
    assert (aside / "directory" / "inside").read_text() == "kept"
    assert secret.exists()
    assert sorted(path.name for path in new.iterdir()) == [".editor.swp", "a1.t1.c0", "empty"]
    drop(layout, "bytes", b"\xff")
    assert len(post.unread("a2")) == 1
    assert len(list(aside.iterdir())) == len(bad) + 4


@pytest.mark.parametrize(
    "data",
    [
        b"From: a\nContent-Type: multipart/mixed" + b";" * 900_000,
        b"From: a\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed" + b";" * 900_000,
        b"From: a\n" + b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" * 300 + b"\n" * 900_000,
        b"From: a\nSubject: " + b"=?a?q?" * 150_000 + b"\n\nhi",
        b"From: a\n" + b"From: a\n" * 100_000,
        b"From: " + b"a,\n " * 200_000,
        b"From: a\nContent-Type: message/rfc822\n\n" * 20_000,
    ],
    ids=["parameters", "inner parameters", "depth", "encoded words", "headers", "lines", "messages"],
)
def test_no_file_takes_for_ever(data: bytes) -> None:
    """The parser's worst cases are refused or cut short: each takes less than a few seconds, not minutes."""
    began = time.monotonic()
    with contextlib.suppress(Malformed):
        parse(data[:MAX_LETTER_BYTES], RUN)
    assert time.monotonic() - began < 10


def test_a_name_that_is_no_text_is_a_letter_too(layout: RunLayout, post: Post) -> None:
    """A file name in some other encoding is no reason to lose what the file says."""
    (post.open("a2") / "new" / os.fsdecode(b"caf\xe9")).write_text("hi")
    (found,) = post.unread("a2")
    assert found.id.startswith("caf-")
    post.read("a2", [found.id])
    assert post.waiting() == []


def test_letters_come_oldest_first(layout: RunLayout, post: Post) -> None:
    """By the time of the file, to less than a second, then by id; read ones among them."""
    for key, later in [("c", 0.5), ("b", 0.25), ("e", 0.75), ("a", 0.25), ("d", -9.0)]:
        post.deliver(letter(key, date=NOON + later))
    assert [item.id for item in post.unread("a2")] == ["d", "a", "b", "c", "e"]
    post.read("a2", ["a", "c"])
    assert [item.id for item in post.letters("a2")] == ["d", "a", "b", "c", "e"]


class Action:
    """What can happen to a mailbox, in any order."""

    deliver, read, again, flag, crash = range(5)


@settings(unhurried, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["k0", "k1", "k2", "k3"])), max_size=25))
def test_a_letter_is_there_exactly_once(actions: list[tuple[int, str]]) -> None:
    """However often it is delivered and read, by whatever process, and whatever flags a mail reader gave it."""
    with scratch() as layout:
        post = Post(layout)
        delivered: set[str] = set()
        read: set[str] = set()
        for action, key in actions:
            if action == Action.deliver:
                assert post.deliver(letter(key)) == (() if key in delivered else ("a2",))
                delivered.add(key)
            elif action == Action.read:
                post.read("a2", [key, "never-sent"])
                read |= {key} & delivered
            elif action == Action.again:
                post = Post(layout)
                post.open("a2")
            elif action == Action.flag and key in read:
                (path,) = layout.mail("a2").glob(f"cur/{key}:2,*")
                path.rename(path.with_name(f"{key}:2,FRS"))
            elif action == Action.crash:
                # What a killed delivery leaves, and what a power cut does.
                post.open("a2").joinpath("tmp", f"{key}.0badf00d").touch()
                if key not in delivered:
                    post.open("a2").joinpath("new", key).touch()
            assert {item.id for item in post.unread("a2")} == delivered - read
            assert sorted(item.id for item in post.letters("a2")) == sorted(delivered)


def test_a_thousand_letters_between_ten_mailboxes() -> None:
    """Sent twice each, in any order, read as they come: everybody has every letter to them once."""
    chance = random.Random(7)
    names = [f"a{n}" for n in range(10)]
    with scratch() as layout:
        post = Post(layout)
        sent = [
            letter(
                f"m{n}", sender=chance.choice(names), to=tuple(chance.sample(names, chance.randint(1, 3))), body=str(n)
            )
            for n in range(1000)
        ]
        seen: Counter[tuple[str, str]] = Counter()
        for step, item in enumerate(chance.sample(sent * 2, len(sent) * 2)):
            post.deliver(item)
            if step % 50 == 0:
                name = chance.choice(names)
                got = post.unread(name)
                seen.update((name, found.id) for found in got)
                post.read(name, [found.id for found in got])
        for name in names:
            seen.update((name, found.id) for found in post.unread(name))
        expected = Counter((name, item.id) for item in sent for name in item.to)
        assert seen == expected
        assert Counter((name, found.id) for name in names for found in post.letters(name)) == expected


def test_a_mailbox_is_opened_more_than_once(layout: RunLayout, post: Post) -> None:
    """Opening again changes nothing; a mailbox that is not there has no mail and is made by the first letter."""
    assert post.unread("a2") == post.letters("a2") == []
    assert post.waiting(["a2"]) == []
    post.read("a2", ["x"])
    path = post.open("a2")
    assert post.open("a2") == path == layout.mail("a2")
    assert sorted(entry.name for entry in path.iterdir()) == ["cur", "new", "tmp"]
    post.deliver(letter(to=("a3", "a2")))
    post.open("a2")
    post.open("a4")
    assert post.waiting() == ["a2", "a3"]
    assert post.waiting(["a4", "a3"]) == ["a3"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "../../etc", ".hidden", "a\n", "x" * 300])
def test_names_lead_nowhere_else(layout: RunLayout, post: Post, name: str) -> None:
    """A recipient, a letter's id or a mailbox that is no plain name is refused before anything is written."""
    for call in (
        lambda: post.deliver(letter(to=("a2", name))),
        lambda: post.deliver(letter(name)),
        lambda: post.open(name),
        lambda: post.unread(name),
        lambda: post.read("a2", [name]),
    ):
        with pytest.raises(BadName):
            call()
    assert post.names() == []


def test_what_cannot_be_delivered_says_why(layout: RunLayout, post: Post) -> None:
    """Too long, no directory, a full disk: one error that names the place, no half letter; later it can be sent."""
    with pytest.raises(MailFailed, match="too long"):
        post.deliver(letter(body="x" * MAX_LETTER_BYTES))
    assert post.names() == []
    layout.mail("a9").write_text("in the way")
    with pytest.raises(MailFailed, match="a9"):
        post.deliver(letter(to=("a2", "a9")))
    with pytest.raises(MailFailed, match="a9"):
        post.unread("a9")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(MailFailed, match="a3"):
            post.deliver(letter(to=("a2", "a3")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(layout.mail("a3").glob("*/*")) == []
    assert post.deliver(letter(to=("a2", "a3"))) == ("a3",)


def test_no_file_stays_open(layout: RunLayout, post: Post) -> None:
    """Mail for many costs no descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        post.deliver(letter(f"m{number}", to=(f"a{number}",)))
        post.unread(f"a{number}")
        post.read(f"a{number}", [f"m{number}"])
    drop(layout, "bad", b"\xff")
    post.unread("a2")
    assert len(os.listdir("/proc/self/fd")) == before
