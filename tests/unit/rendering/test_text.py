import pytest

from notification_engine.rendering.text import text_of, tidy


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("a<br>b", "a\nb"),
        ('<a href="https://x.example/">Open</a>', "Open: https://x.example/"),
        ('<a href="https://x.example/">https://x.example/</a>', "https://x.example/"),
        ('<a href="mailto:a@x.example">a@x.example</a>', "a@x.example"),
        ('<a href="https://x.example/"><img alt="Logo" src="l.png"></a>', "Logo: https://x.example/"),
        ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
        (
            "<table><tr><td>Run</td><td>7</td></tr><tr><td>Env</td><td>a</td><td>b</td></tr></table>",
            "Run: 7\nEnv: a, b",
        ),
        ('<table role="presentation"><tr><td>one</td><td>two</td></tr></table>', "one\ntwo"),
        ("<head><title>no</title></head><style>.a{}</style><p>yes</p>", "yes"),
        ('<div style="display: none">preheader<p>x</p></div><p>yes</p>', "yes"),
        ("a &amp; b &lt;c&gt; &nbsp; d", "a & b <c> d"),
        ("<!-- no --><p>x<!-- no --></p>", "x"),
        ("", ""),
    ],
)
def test_text_reads_well(html: str, text: str) -> None:
    assert text_of(html) == text + "\n"


def test_comments_that_are_marks_stay() -> None:
    assert text_of("<p><!--m1-->x<!--n--></p>", lambda comment: comment == "<!--m1-->") == "<!--m1-->x\n"


def test_empty_lines_do_not_pile_up() -> None:
    assert tidy("  a  \n \n\n\n b\xa0 c ") == "a\n\nb c"
