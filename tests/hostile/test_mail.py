"""Letters with other letters in them, and files in mailboxes that are none."""

from __future__ import annotations

import email
import os
import re
from pathlib import Path

import pytest

from tests.hostile.corpus import Attack, attacks
from tests.hostile.ground import Ground, bounded
from workspace import Letter, MailFailed, Post

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "MIME-Version", "Content-Type",
    "Content-Transfer-Encoding",
}  # fmt: skip


@pytest.mark.parametrize("attack", attacks("mail", "mail headers"), ids=lambda attack: attack.way)
def test_what_is_written_stays_in_its_place(ground: Ground, tmp_path: Path, attack: Attack) -> None:
    """Whatever stands in a subject, a body, a sender: one recipient, the usual headers once each, and no others."""
    post = Post(ground.layout)
    text = ground.filled(attack.how)
    fields: dict[str, str] = {"sender": "a1", "subject": "s", "body": "b", "in_reply_to": ""} | {attack.way: text}
    letter = Letter(id="a1-s1-1", to=("a2",), date=1.0, **fields)  # type: ignore[arg-type]
    with bounded(0):
        post.deliver(letter)
        (found,) = post.letters("a2")
    assert found.path is not None
    raw = found.path.read_bytes()
    message = email.message_from_bytes(raw)
    assert len(message.keys()) == len(set(message.keys()))
    assert set(message.keys()) <= HEADERS
    assert (found.id, found.to) == ("a1-s1-1", ("a2",))
    assert found.sender == "a1" or attack.way == "sender"
    shown = f"{found.sender}{found.subject}{found.in_reply_to}"
    assert "\n" not in shown
    assert not CONTROL.search(shown + found.body)
    found.path.unlink()
    assert post.letters("human") == post.letters("ramet") == []


@pytest.mark.parametrize("attack", attacks("mail", "dropped letters"), ids=lambda attack: attack.kind)
def test_a_dropped_file_hides_no_other(ground: Ground, attack: Attack) -> None:
    """It is read, or set aside, in bounded time; a good letter beside it is read all the same."""
    post = Post(ground.layout)
    new = post.open("a3") / "new"
    for old in new.iterdir():
        old.unlink()
    (new / "bad").write_bytes(ground.filled(attack.how).encode())
    (new / "good").write_bytes(b"From: human\n\nhello\n")
    with bounded(0):
        letters = post.unread("a3")
    assert "hello" in [letter.body for letter in letters]
    assert len(letters) <= 2
    for letter in letters:
        assert not CONTROL.search(letter.body + letter.subject + letter.sender)
        assert "/" not in letter.id


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "-rf", "a\0b", "a\nb", "x" * 200, ".hidden", "\ud800"])
def test_a_mailbox_is_no_path(ground: Ground, name: str) -> None:
    """A recipient that is no plain name has no mailbox, and nothing is made."""
    letter = Letter(id="a1-s1-2", sender="a1", to=(name,), subject="s", body="b", date=1.0)
    with pytest.raises(Exception, match="not usable as a file name"):
        Post(ground.layout).deliver(letter)


def test_what_is_no_file_is_no_letter(ground: Ground) -> None:
    """Links, pipes, directories and devices in a mailbox are set aside unopened; too long a letter is refused."""
    post = Post(ground.layout)
    new = post.open("a4") / "new"
    (new / "link").symlink_to(ground.outside / "secret.txt")
    (new / "device").symlink_to("/dev/zero")
    os.mkfifo(new / "fifo")
    (new / "directory").mkdir()
    with bounded(0):
        assert post.unread("a4") == []
    assert not list(new.iterdir())
    with pytest.raises(MailFailed, match="too long"):
        post.deliver(Letter(id="a1-s1-3", sender="a1", to=("a2",), subject="s", body="x" * (1 << 20), date=1.0))
