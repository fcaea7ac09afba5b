"""The page's Markdown, in a real browser, against markdown-it-py."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.server.page.conftest import Watched
from tests.support.chat_server import Script, running, scripted_app

LINES = (
    "plain *emphasised* and **strong** words",
    "***both*** and **a *nested* b** and *a **nested** b*",
    "snake_case_names and __dunder__ and _x_ and 2*3*4 and a ** b",
    '**bold**text, *a*b, **"quoted"** and *(x)*.',
    "*open and **never closed",
    "a * b * c, ** d **, ****",
    "*a _b* c_ and **a *b** c*",
    "~~gone~~ and ~one~ and ~~~ three",
    "`code` and ``a ` b`` and `` ` `` and `open",
    "`*not emphasised*` *`code`*",
    r"\*not\* \_this\_ \`nor\` \\ this \# \a",
    "&amp; &lt;b&gt; &copyright &quot;",
    "<b>bold</b> <script>alert(1)</script> <!-- x --> a < b > c",
    "[link](http://a.example/x) and [**b** c](https://b.example 'title')",
    "[a](http://a.example/x_(y)) [b]( http://b.example ) [c](<http://c.example/ d>)",
    "[no link] and [no](link and ] and [ and []",
    "[a [b](http://b.example) c](d)",
    "<https://a.example/x?y=1&z=2> and <not a link>",
    "line one\nline two\\\nline three  \nline four",
    "# One\n## Two ##\n### Three #\n#### Four\n##### Five\n###### Six\n####### Seven\n#no",
    "Title\n=====\n\nOther\n---\ntext",
    "a\n\n---\n\n***\n\n_ _ _\n\nb",
    "```python\nx = '<b>'\n\n  *y*\n```\nafter",
    "~~~\na\n```\nb\n~~~",
    "````\n```\ninner\n```\n````",
    "```\nopen *code*",
    "    indented\n\n    more\n\ntext",
    "> quoted *a*\n> b\nlazy\n\nafter",
    "> a\n>\n> b\n> > c\n> - d",
    "- a\n- b\n  - c\n    - d\n- e",
    "* a\n\n  second\n* b",
    "- a\n\n- b\n\n\n- c",
    "1. a\n2. b\n   1. c\n3. d",
    "7) a\n8) b\n\ntext",
    "- a\n+ b\n* c",
    "1. a\n\n   ```\n   code\n   ```\n\n2. b",
    "- a\nlazy line\n- b",
    "-\n- b\n\n-\n\n  c",
    "text\n- list\n\ntext\n2. not a list",
    "- # heading\n- > quote\n- ---\n",
    "|a|b|\n|---|:-:|\n|1|*2*|\n|3|",
    "a | b | c\n:-- | --: | ---\n`x` | y \\| z | w\n\nafter",
    "| a |\n| - |\n| b |\ntext follows\n\nx",
    "a | b\nno table",
    "para\n| a | b |\n|---|---|\n| 1 | 2 |",
    "\ttabs\n\n-\ttab item\n\n\tmore",
    "a\u00a0b \u2014 *\u00e9t\u00e9* **\u4e2d\u6587**\u5b57 \U0001f600",
    "",
    "\n\n \n",
    "***",
    "*\n\n**\n\n_",
    "* * *\n- - -\n* *",
    "Some **text:** and `code`:\n\n1. **One**: x\n2. **Two**: y",
)

NORMALISE = """
(html) => {
  const inline = new Set(["EM", "STRONG", "S", "CODE", "A", "BR", "SPAN", "INPUT"]);
  const walk = (node, keep) => {
    if (node.nodeType === 3) return keep ? node.data : node.data.replace(/\\s+/g, " ");
    if (node.nodeType !== 1) return "";
    const classes = node.classList;
    const code = classes.contains("code") ? node.querySelector("code") : node;
    if (code !== node || node.tagName === "PRE") {
      return `<pre>${code.textContent.replace(/\\n$/, "")}</pre>`;
    }
    const isCode = node.tagName === "CODE";
    const inner = [...node.childNodes].map((child) => walk(child, isCode)).join("");
    if (classes.contains("table") || node.tagName === "SPAN") return inner;
    const tag = node.tagName.toLowerCase();
    const start = tag === "ol" && node.start !== 1 ? ` start=${node.start}` : "";
    const align = ["right", "center"].filter((name) => classes.contains(name)).join("");
    const href = tag === "a" ? ` ${new URL(node.href).href}` : "";
    const text = inline.has(node.tagName) ? inner : inner.trim();
    return tag === "br" ? "<br>" : `<${tag}${start} ${align}${href}>${text}</${tag}>`;
  };
  const template = document.createElement("template");
  template.innerHTML = html;
  return [...template.content.childNodes].map((node) => walk(node, false)).join("")
    .replace(/\\s*(<\\/?(?:[phuolt][\\dlihradbey]*|blockquote|pre)\\b[^>]*>)\\s*/g, "$1")
    .replace(/\\s*<br>\\s*/g, "<br>").replace(/<tbody><\\/tbody>/g, "");
}
"""

RENDER = """
async (texts) => {
  const { MarkdownView } = await import("/page/markdown.js");
  return texts.map((text) => {
    const view = new MarkdownView();
    view.update(text);
    return view.element.innerHTML;
  });
}
"""


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """One page for all tests here; none of them talks to the server."""
    with running(scripted_app(Script())) as url:
        context = browser.new_context()
        watched = Watched(context, url)
        yield watched.page
        context.close()
        assert (watched.errors, watched.foreign) == ([], [])


def rendered(page: Any, texts: Sequence[str]) -> list[str]:
    """The HTML of what the page shows for each text."""
    return list(page.evaluate(RENDER, list(texts)))


def test_markdown_is_what_another_library_makes_of_it(page: Any) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": False})
    parser.enable(["table", "strikethrough"])
    ours = rendered(page, LINES)
    normalise = f"(many) => many.map({NORMALISE})"
    found = page.evaluate(normalise, ours)
    theirs = [re.sub(r'style="text-align:(\w+)"', r'class="\1"', parser.render(x)) for x in LINES]
    expected = page.evaluate(normalise, theirs)
    for text, got, wanted in zip(LINES, found, expected, strict=True):
        assert got == wanted, text


def test_what_was_shown_before_does_not_matter(page: Any) -> None:
    text = "\n\n".join(LINES)
    grown, whole = page.evaluate(
        """
        async (text) => {
          const { MarkdownView } = await import("/page/markdown.js");
          const grown = new MarkdownView();
          for (let end = 0; end <= text.length; end += 1) grown.update(text.slice(0, end));
          const whole = new MarkdownView();
          whole.update(text);
          return [grown.element.innerHTML, whole.element.innerHTML];
        }
        """,
        text,
    )
    assert grown == whole


def test_blocks_that_do_not_change_are_kept(page: Any) -> None:
    kept = page.evaluate(
        """
        async () => {
          const { MarkdownView } = await import("/page/markdown.js");
          const view = new MarkdownView();
          view.update("# a\\n\\n```\\ncode\\n```\\n\\nsome");
          const before = [...view.element.children];
          view.update("# a\\n\\n```\\ncode\\n```\\n\\nsome more");
          return [...view.element.children].map((child, n) => child === before[n]);
        }
        """
    )
    assert kept == [True, True, False]


HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "<script>window.hacked=1</script>",
    "[x](javascript:window.hacked=1)",
    "[x](JaVaScRiPt:window.hacked=1)",
    "[x](java\nscript:window.hacked=1)",
    "[x](&#106;avascript:window.hacked=1)",
    "[x](data:text/html,<script>window.hacked=1</script>)",
    "[x](vbscript:x) [y](file:///etc/passwd) [z](//evil.example) [w](/relative) [v](mailto:a@b.c)",
    "[x](blob:http://evil.example/1)",
    "<javascript:window.hacked=1>",
    '[x](http://a.example "onmouseover=window.hacked=1")',
    '[x](http://a.example" onmouseover="window.hacked=1)',
    "![x](http://evil.example/pixel.png)",
    "![x](javascript:window.hacked=1)",
    "```<img src=x onerror=window.hacked=1>\n<img src=x onerror=window.hacked=1>\n```",
    "|<img src=x onerror=window.hacked=1>|\n|-|\n|<svg onload=window.hacked=1>|",
    "`<img src=x onerror=window.hacked=1>`",
    "```python\n'<img src=x onerror=window.hacked=1>' # <script>window.hacked=1</script>\n```",
    "&lt;script&gt;window.hacked=1&lt;/script&gt;",
    "\\(<img src=x onerror=window.hacked=1>\\)",
    'https://a.example/"onmouseover=window.hacked=1',
    "[__proto__](http://a.example) &__proto__; &constructor;",
    "```__proto__\nx\n```\n```constructor\nx\n```",
)


def test_hostile_text_becomes_neither_script_nor_picture_nor_frame(page: Any) -> None:
    for html in rendered(page, HOSTILE):
        page.evaluate("(html) => document.getElementById('messages').innerHTML = html", html)
        bad = page.evaluate(
            """
            () => [...document.getElementById("messages").querySelectorAll("*")].filter((node) =>
              node.matches("script, img, iframe, object, embed, style, form, link, meta, base")
              || [...node.attributes].some(({ name }) => name.startsWith("on") || name === "style")
              || (node.tagName === "A" && !/^https?:/.test(node.href))
            ).map((node) => node.outerHTML)
            """
        )
        assert bad == []
    links = page.locator("#messages a")
    assert all(links.nth(n).get_attribute("rel") for n in range(links.count()))
    assert page.evaluate("window.hacked") is None


def test_links_say_nothing_about_where_they_came_from(page: Any) -> None:
    (html,) = rendered(page, ["see https://a.example/x_y, (https://b.example/z). http:// x"])
    assert 'href="https://a.example/x_y"' in html
    assert 'href="https://b.example/z"' in html
    assert html.count("<a ") == html.count('rel="noopener noreferrer nofollow"') == 2


def test_formulas_are_shown_as_written(page: Any) -> None:
    (html,) = rendered(page, ["so \\(a_1 * b_2 * c\\) and $$x_1^*y_2^*$$ for $5 and $6"])
    assert '<code class="formula">a_1 * b_2 * c</code>' in html
    assert '<code class="formula">x_1^*y_2^*</code>' in html
    assert "for $5 and $6" in html


@pytest.mark.parametrize(
    "text",
    [
        "*a " * 20_000,
        "*a **b " * 10_000,
        "**a *b** c* " * 5_000,
        "[" * 50_000,
        "[a](http://a.example " * 5_000,
        "![" * 20_000 + "](http://a.example)" * 20_000,
        "`a ``b ```c " * 5_000,
        "> " * 20_000,
        "- " * 20_000,
        "\n".join("  " * n + "- a" for n in range(400)),
        "<" * 50_000,
        "\\(" * 20_000,
        "|" * 20_000 + "\n" + "|-" * 20_000,
        "*" * 50_000,
        "_a" * 30_000,
        "_ " * 30_000,
        "```\n" * 10_000,
        "http://" * 10_000,
        "1. " * 10_000,
        "#" * 50_000,
        "a  \n" * 20_000,
        "```js\n" + "/*" * 20_000 + '"' * 20_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_nothing_hangs_the_page(page: Any, text: str) -> None:
    # Times are not compared: what is not nearly linear takes minutes for these.
    (html,) = rendered(page, [text])
    assert html


def test_random_marks_lose_no_word_and_never_fail(page: Any) -> None:
    rng = random.Random(5)
    marks = ["*", "**", "_", "`", "``", "~~", "[", "](http://a.example)", "]", "\n", "\n\n", "> ",
             "- ", "1. ", "# ", "|", "|-|-|\n", "```\n", "    ", "\\", "<", "&", "!", "$$", "(",
             ")"]  # fmt: skip
    texts = []
    for _ in range(400):
        parts = [rng.choice([*marks, f"w{n} "]) for n in range(rng.randrange(1, 40))]
        texts.append("".join(parts))
    shown = page.evaluate(
        """
        async (texts) => {
          const { MarkdownView } = await import("/page/markdown.js");
          return texts.map((text) => {
            const view = new MarkdownView();
            view.update(text);
            return view.element.textContent;
          });
        }
        """,
        texts,
    )
    for text, seen in zip(texts, shown, strict=True):
        # A fence's language is in the head of its block; cells that a table has no column for go.
        if "|" in text:
            continue
        for word in text.replace("`", " ").split():
            if word.isalnum() and word.startswith("w"):
                assert word in seen, text
