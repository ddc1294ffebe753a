"""HTML pages as the tests read them."""

from html.parser import HTMLParser

VOID = ("meta", "input")  # tags without an end
LOADING = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")  # attributes with addresses


class Tags(HTMLParser):
    """The tags of a page and its text. Raises AssertionError unless every tag is closed, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.addresses += [str(value) for name, value in attrs if name in LOADING]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, in one line."""
        return " ".join("".join(self.texts).split())


def rows_of(page: str, caption: str) -> list[list[str]]:
    """The cells of the table whose caption starts with this text, the head first."""
    table = page.partition(f"<caption>{caption}")[2].partition("</table>")[0]
    rows = []
    for row in table.split("<tr")[1:]:
        cells = (cell.partition(">")[2] for cell in row.replace("<th", "<td").split("<td")[1:])
        rows.append([Tags(f"<b>{cell.partition('</t')[0]}</b>").text for cell in cells])
    return rows


def require_self_contained(page: str) -> Tags:
    """The tags of a page that loads nothing, and runs and styles nothing but its own. Raises AssertionError."""
    tags = Tags(page)
    (policy,) = (
        attributes["content"] for tag, attributes in tags.attributes
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert tags.names.count("script") == tags.names.count("style") == 1
    assert {"link", "img", "iframe", "object", "embed", "base", "form", "video", "audio"}.isdisjoint(tags.names)
    assert all(address.startswith("#") or address == "report.md" for address in tags.addresses)
    for _, attributes in tags.attributes:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    return tags
