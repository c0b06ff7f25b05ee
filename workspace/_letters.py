"""What a letter is, and the text of its file: RFC 5322 headers, an empty line, a plain text in UTF-8.

Owns the format of one letter. Invariants: what a sender writes stays in the header or the body it was meant
for, because no header holds a line break; `parse` gives back what `render` was given, made harmless; and it
raises nothing but `Malformed`, whatever the bytes. It knows nothing of files.

Headers are pure ASCII (RFC 2047 encodes what is not), so that any mail reader shows them; the body is written
as it is, so that `cat` shows it. Agents are addressed as `<name>@<run>`.
"""

import contextlib
import re
from email.errors import MessageError, MissingHeaderBodySeparatorDefect
from email.header import Header, decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.utils import formatdate
from pathlib import Path

import msgspec

from workspace.layout import is_plain_name
from workspace.text import harmless, harmless_name

MAX_LETTER_BYTES = 1 << 20
"""A letter is read by a model: a quarter of a million tokens is more than it could take in. Send a path instead."""

HUMAN = "human"
"""Whom a file is from that somebody put into a mailbox without any headers."""

# A line of a status or a list. What is longer is cut: the body says it.
_MAX_LINE_LETTERS = 200
# RFC 5322 recommends it; longer lines are folded.
_FOLD_AT = 76
# Line breaks to some programs, and no control characters.
_SEPARATORS = {0x2028: " ", 0x2029: " "}
# A text that has these above an empty line is a letter that somebody meant to address, not a plain text.
_TELLING = {"to", "subject", "date", "message-id", "in-reply-to", "content-type", "mime-version"}
# What the parser raises for parameters of a header: a charset with a NUL in its name; one given whole and in parts.
_UNREADABLE = (ValueError, TypeError)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The parser's time grows with the square of these. Mail programs stay far below.
_MAX_TYPE_BYTES = 2000
_MAX_ENCODED_LETTERS = 10_000
_MAX_PARTS = 20
_LONG_TYPE = re.compile(rb"(?i)(?:^|[\r\n])content-type:(?:[^\n]|\n[ \t]){%d}" % _MAX_TYPE_BYTES)
_LINE_BREAK = re.compile("[\r\n]+")


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `date` is in seconds since 1970, `in_reply_to` the id of another letter.

    `id` names it for ever: a letter with an id that a mailbox has already is the same letter. `path` is where it
    lay when it was found.
    """

    id: str
    sender: str
    to: tuple[str, ...]
    subject: str
    body: str
    date: float
    in_reply_to: str = ""
    path: Path | None = None


class Malformed(ValueError):
    """These bytes are no letter; says why. Does not leave this floor: whoever reads a mailbox sets the file aside."""


def one_line(text: str) -> str:
    """`text` as a header can hold it: controls made visible, no space around it, at most 200 letters."""
    text = harmless_name(text).translate(_SEPARATORS).strip()
    return text if len(text) <= _MAX_LINE_LETTERS else text[: _MAX_LINE_LETTERS - 1] + "…"


def render(letter: Letter, run: str) -> bytes:
    """The file of `letter`, in the run named `run`. Its `id` and recipients must be plain names."""
    headers = [
        _header("From", _address(one_line(letter.sender) or "unknown", run)),
        f"To: {_joined([_address(name, run) for name in letter.to])}\n",
        _header("Subject", one_line(letter.subject)),
        f"Date: {formatdate(letter.date)}\n",
        f"Message-ID: <{letter.id}@{run}>\n",
    ]
    if letter.in_reply_to:
        headers.append(_header("In-Reply-To", f"<{_address(one_line(letter.in_reply_to), run)}>"))
    headers += [
        "MIME-Version: 1.0\n",
        'Content-Type: text/plain; charset="utf-8"\n',
        "Content-Transfer-Encoding: 8bit\n",
    ]
    return f"{''.join(headers)}\n{harmless(letter.body)}\n".encode()


def parse(data: bytes, run: str) -> Letter:
    """The letter in `data`, without path and date; its `id` is "" where it was not written in the run named `run`.

    A text without headers is a letter from a person. Raises Malformed.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    message = BytesHeaderParser().parsebytes(data)
    # The first of a kind counts.
    headers = {name.lower(): _line(str(value)) for name, value in reversed(list(message.raw_items()))}
    if "from" not in headers:
        if _is_headed(message, headers):
            raise Malformed("it has headers, but no From")
        return Letter(id="", sender=HUMAN, to=(), subject="", body=_body(_decoded(data, "utf-8")), date=0.0)
    if len(headers.get("content-type", "")) > _MAX_TYPE_BYTES:
        raise Malformed("its Content-Type is too long")
    body = _body(_text([message] if message.get_content_maintype() == "text" else _parts(data)))
    host = f"@{run}"
    sender = one_line(headers["from"].removesuffix(host))
    if not sender:
        raise Malformed("its From is empty")
    key = headers.get("message-id", "").removeprefix("<").removesuffix(">")
    return Letter(
        id=key.removesuffix(host) if key.endswith(host) else "",
        sender=sender,
        to=tuple(
            one_line(name.strip().removesuffix(host)) for name in headers.get("to", "").split(",") if name.strip()
        ),
        subject=one_line(headers.get("subject", "")),
        body=body,
        date=0.0,
        in_reply_to=one_line(headers.get("in-reply-to", "").removeprefix("<").removesuffix(">").removesuffix(host)),
    )


def _address(name: str, run: str) -> str:
    # A name that looks as if it were one of the run already must not lose that when it is read.
    return f"{name}@{run}" if is_plain_name(name) or name.endswith(f"@{run}") else name


def _header(name: str, text: str) -> str:
    """One header, folded where it must be encoded. `text` is one line."""
    if not text.isascii() or "=?" in text:
        text = Header(text, "utf-8", maxlinelen=_FOLD_AT, header_name=name).encode()
    return f"{name}: {text}\n"


def _joined(addresses: list[str]) -> str:
    one = ", ".join(addresses)
    return one if len(one) <= _FOLD_AT else ",\n ".join(addresses)


def _is_headed(message: Message, headers: dict[str, str]) -> bool:
    whole = not any(isinstance(defect, MissingHeaderBodySeparatorDefect) for defect in message.defects)
    try:
        follows = bool(message.get_payload())
    except ValueError:  # such as a charset with a NUL in its name, which is looked up where there is text
        follows = True
    return whole and follows and not _TELLING.isdisjoint(headers)


def _line(raw: str) -> str:
    """The text of a header as it stands in a file: unfolded, decoded, without space around it."""
    text = _LINE_BREAK.sub("", raw).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if "=?" in text and len(text) <= _MAX_ENCODED_LETTERS:
        # What cannot be decoded is shown as it is.
        with contextlib.suppress(MessageError, LookupError, ValueError):
            text = str(make_header(decode_header(text)))
    return text.strip()


def _parts(data: bytes) -> list[Message]:
    """Everything that is wrapped in a message. Raises Malformed where the parser could take for ever."""
    if data.lower().count(b"boundary=") > _MAX_PARTS or _LONG_TYPE.search(data):
        raise Malformed("there are too many parts in it")
    try:
        return list(BytesParser().parsebytes(data).walk())
    except (RecursionError, *_UNREADABLE) as error:
        raise Malformed(f"its parts cannot be told apart: {error}") from error


def _text(parts: list[Message]) -> str:
    """The first plain text among `parts`."""
    for part in parts:
        if part.get_content_type() == "text/plain":
            try:
                payload, charset = part.get_payload(decode=True), part.get_content_charset("utf-8")
            except _UNREADABLE as error:
                raise Malformed(f"its text cannot be decoded: {error}") from error
            if isinstance(payload, bytes):
                # UTF-8 is what programs send that say nothing better.
                return _decoded(payload, "utf-8" if charset == "us-ascii" else charset)
    raise Malformed("there is no plain text in it")


def _decoded(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset)
    except (LookupError, ValueError) as error:
        raise Malformed(f"its text is not {charset}: {error}") from error


def _body(text: str) -> str:
    return harmless(text).removesuffix("\n")
