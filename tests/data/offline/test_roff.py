"""Manual pages in roff become plain paragraphs."""

import pytest

from poslab.data.offline.roff import paragraphs, plain

PAGE = r"""
.\" a comment
.TH read 2 2024-05-02 "Linux man-pages"
.SH NAME
read \- read from a file
.SH "RETURN VALUE"
On success,
.BR read ()
returns the number of
.I bytes\c
; see
.UR https://example.org/x
.UE .
.P
See
.MT someone@example.org
a person
.ME !
.TP
.B EAGAIN
The file
.I fd
is busy. \" another comment
.TP
.BR EBADF " or " \c
.B EINTR
Two of them.
.TQ
.B EIO
.IP \(bu 3
A point.
.nf
.B int main(void);
.fi
After code.
.de XX
Not text.
..
.if n \{\
.ad l
Not text either.
.\}
.TS
a	table
.TE

A paragraph behind a blank line.
"""


def read() -> list[tuple[str, str | None]]:
    found = paragraphs(PAGE)
    assert found is not None
    return [(paragraph.kind, plain(paragraph.text)) for paragraph in found]


def test_paragraphs_come_in_order_with_their_kinds_and_without_macros() -> None:
    assert read() == [
        ("section", "NAME"),
        ("text", "read - read from a file"),
        ("section", "RETURN VALUE"),
        ("text", "On success, read() returns the number of bytes; see https://example.org/x."),
        ("paragraph", "See a person!"),
        ("tag", "EAGAIN"),
        ("text", "The file fd is busy."),
        ("tag", "EBADF or EINTR"),
        ("text", "Two of them."),
        ("tag", "EIO"),
        ("indented", "•"),
        ("text", "A point."),
        ("text", "After code."),
        ("paragraph", "A paragraph behind a blank line."),
    ]


@pytest.mark.parametrize(
    "roff, text",
    [
        (r"\fBread\fP()\~\(em \f[CR]x\fR", "read() — x"),
        (r"\-1 \[aq]a\[aq] \(Fo mot \(Fc \[u00E9]", "-1 'a' « mot » é"),
        (r"a\&.b \e0 \[rs]n \% \s-2small\s0", r"a.b \0 \n small"),
        ("non\N{NO-BREAK SPACE}breaking", "non breaking"),
        (r"\*(Aqquoted\*(Aq", "'quoted'"),
        (r"width \w'x' unknown", None),
        (r"\[nothing]", None),
    ],
)
def test_escapes_become_the_characters_that_they_print(roff: str, text: str | None) -> None:
    assert plain(roff) == text


def test_a_page_in_the_other_macro_language_is_not_read() -> None:
    assert paragraphs(".Dd May 2, 2024\n.Dt X 1\n.Sh NAME\n.Nm x") is None
