"""The files of an evidence pack: complete, the same for the same data, harmless, and all or nothing."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import subprocess
import sys
import zipfile
from datetime import datetime
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from handlers.operate.errors import OperateError
from handlers.operate.pack.charts import latency_chart, svg
from handlers.operate.pack.folder import write_folder
from handlers.operate.pack.sheets import Sheet, workbook
from infra.deploy.build import ROOT
from schemas.pack import Manifest, Pack
from tests.histories import History, accounts, at, period, quarter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

    from tests.operator_cli import OperatorCli

#: What others could write where they may write anything.
HOSTILE = '=HYPERLINK("http://x";"y") <script>alert(1)</script> & </table> \u202eevil\x1b[31m {{ 7*7 }}'

SHEETS = {"long": 4, "short": 3}


def make(tool: OperatorCli, folder: Path, *options: str) -> Result:
    result = tool.run("evidence", str(folder), *period(), "--no-verification", *options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the pack of a quarter."""
    folder = tmp_path_factory.mktemp("packs") / "q3"
    assert make(quarter().tool, folder).exit_code == 0
    return folder


# ---------------------------------------------------------------- the folder


def test_the_manifest_names_every_file_with_its_size_and_hash(made: Path) -> None:
    found = files(made)
    manifest = Manifest.model_validate_json(found.pop("manifest.json"))

    assert {each.path: (each.size, each.sha256) for each in manifest.files} == {
        name: (len(content), sha256(content).hexdigest()) for name, content in found.items()
    }
    assert {"report.html", "report.pdf", "report.xlsx", "pack.json", "csv/members.csv"} <= found.keys()


def test_the_command_prints_the_hash_of_the_manifest(tmp_path: Path) -> None:
    result = make(quarter().tool, tmp_path / "q3", "--json")

    printed = json.loads(result.stdout)
    assert printed["manifest_sha256"] == sha256((tmp_path / "q3" / "manifest.json").read_bytes()).hexdigest()
    assert printed["summary"]["joined"] == 24


def test_the_same_data_makes_the_same_bytes(tmp_path: Path, made: Path) -> None:
    make(quarter().tool, tmp_path / "again")

    assert files(tmp_path / "again") == files(made)


def test_only_its_owner_can_read_the_folder(made: Path) -> None:
    assert made.stat().st_mode & 0o077 == 0


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    result = quarter().tool.run("evidence", str(tmp_path), *period())

    assert isinstance(result.exception, OperateError)
    assert re.search("is not empty. Name one", str(result.exception))
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "q3").mkdir()

    assert make(History().tool, tmp_path / "q3").exit_code == 0

    assert (tmp_path / "q3" / "manifest.json").exists()


def test_a_file_with_the_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q3").touch()

    result = quarter().tool.run("evidence", str(tmp_path / "q3"), *period())

    assert re.search("is not a folder", str(result.exception))


def test_a_pack_that_cannot_be_finished_leaves_nothing_behind(tmp_path: Path, made: Path) -> None:
    pack = Pack.model_validate_json((made / "pack.json").read_bytes())
    unfinished = list[str]()

    def interrupted() -> Iterator[tuple[str, bytes]]:
        yield "report.html", b"x"
        unfinished.extend(each.name for each in tmp_path.rglob("report.*"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "q3", pack, interrupted())

    assert unfinished, "a file was written when it ended"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "2026-10-01", "--to", "2026-09-30"], "is before --from"),
        (["--from", "2026-12-01", "--to", "2026-12-31"], "is in the future"),
        (["--from", "1 July", "--to", "2026-09-30"], "is not a day"),
        (["--to", "2026-09-30"], "Missing option '--from'"),
    ],
)
def test_a_wrong_period_is_wrong_use(tmp_path: Path, options: list[str], message: str) -> None:
    result = quarter().tool.run("evidence", str(tmp_path / "q3"), *options)

    assert result.exit_code == 2
    assert message in result.output


def test_a_source_that_was_not_read_completely_is_exit_status_1_and_said(tmp_path: Path) -> None:
    history = quarter()
    history.objects[next(iter(history.objects))] = b"?"

    result = make(history.tool, tmp_path / "q3")

    assert result.exit_code == 1
    assert "not proven: Of the source" in result.output.replace("\n", " ")


def test_evidence_that_is_gone_is_exit_status_1(tmp_path: Path) -> None:
    history = quarter()
    del history.objects[next(each for each in history.objects if each.startswith("evidence/2026"))]

    assert make(history.tool, tmp_path / "q3").exit_code == 1


def test_what_is_not_known_of_a_member_looks_unknown_in_each_form(tmp_path: Path) -> None:
    history = History()
    history.tool.reader.member("300000000000")
    for each in history.required:
        history.tool.reader.policy(each, each)

    make(history.tool, tmp_path / "q3")

    [member] = json.loads((tmp_path / "q3" / "pack.json").read_bytes())["members"]
    assert {"required", "carried"}.isdisjoint(member)
    assert member["carried_now"] == []
    [row] = rows(tmp_path / "q3", "members")
    assert (row["required"], row["carried"], row["carried_now"]) == ("not known", "not known", "")
    sheet = load_workbook(tmp_path / "q3" / "report.xlsx")["members"]
    titles = [cell.value for cell in sheet[1]]
    assert sheet.cell(2, titles.index("carried") + 1).value == "not known"
    shown = (tmp_path / "q3" / "report.html").read_text().partition('<table id="members-table"')[2]
    cells = re.findall(r"<t[hd][^>]*>(?:<b[^>]*>)?([^<]*)", shown.partition("<tbody>")[2].partition("</tbody>")[0])
    assert cells[4:7] == ["not known", "not known", f"without {', '.join(history.required)}"]
    paper = "".join(each.extract_text() for each in PdfReader(tmp_path / "q3" / "report.pdf").pages)
    assert paper.count("not known") >= 2


# ---------------------------------------------------------------- pseudonyms


def unpacked(folder: Path) -> dict[str, bytes]:
    """Return all bytes of a pack, with the workbook's parts and the PDF's text as files of their own."""
    found = files(folder)
    workbook = zipfile.ZipFile(io.BytesIO(found["report.xlsx"]))
    found |= {f"xlsx/{name}": workbook.read(name) for name in workbook.namelist()}
    pages = PdfReader(io.BytesIO(found["report.pdf"])).pages
    found["pdf text"] = "\n".join(page.extract_text() for page in pages).encode()
    return found


def test_no_account_id_is_in_any_file_of_a_pack_with_pseudonyms(made: Path) -> None:
    known = [*accounts(60), *accounts(24, 400_000_000_000), "500000000000", "111111111111"]
    every = re.compile("|".join(known).encode())

    assert [name for name, content in unpacked(made).items() if every.search(content)] == []


def test_a_pack_with_ids_says_so_in_each_form(tmp_path: Path) -> None:
    make(quarter().tool, tmp_path / "q3", "--reveal")

    found = unpacked(tmp_path / "q3")
    assert b"This pack names accounts by their IDs" in found["report.html"]
    assert found["pdf text"].count(b"Names accounts by their IDs") == len(
        PdfReader(io.BytesIO(found["report.pdf"])).pages
    )
    assert b"by their ids" in found["csv/summary.csv"]
    assert json.loads(found["manifest.json"])["reveals"]
    assert accounts(1)[0].encode() in found["csv/members.csv"]


# ---------------------------------------------------------------- hostile texts


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the pack of a history whose texts are hostile."""
    history = quarter()
    for text in (HOSTILE, "+1+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "  =1+1", "\t=1"):
        history.act(at(50), reason=text)
    history.deploy(at(51), reason=HOSTILE)
    folder = tmp_path_factory.mktemp("packs") / "hostile"
    make(history.tool, folder)
    return folder


class Elements(HTMLParser):
    """Collects the elements and the attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def elements(folder: Path) -> Elements:
    parser = Elements()
    parser.feed((folder / "report.html").read_text())
    return parser


def test_texts_of_others_are_text_in_the_page(hostile: Path) -> None:
    page = elements(hostile)

    assert {tag for tag, _ in page.found}.isdisjoint({"script", "iframe", "img", "object", "link", "form"})
    assert "<script>alert(1)</script> & </table>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text


def test_the_page_loads_nothing_and_its_policy_forbids_it(made: Path) -> None:
    page = elements(made)

    addresses = [
        value
        for _, attributes in page.found
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "style", "data", "poster"} or name.startswith("on")
    ]
    assert addresses
    assert all(value and value.startswith("#") for value in addresses)
    assert "url(" not in (made / "report.html").read_text()
    [policy] = [each["content"] for _, each in page.found if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_headings_are_in_order_and_tables_have_captions_and_scopes(made: Path) -> None:
    page = elements(made)

    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    tags = [tag for tag, _ in page.found]
    assert tags.count("table") == tags.count("caption") > 10
    assert all(attributes.get("scope") in {"col", "row"} for tag, attributes in page.found if tag == "th")
    identities = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(identities) == len(set(identities))


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "csv" / f"{name}.csv").read_text())))


def test_no_text_is_a_formula_in_csv(hostile: Path) -> None:
    texts = [path.read_text() for path in (hostile / "csv").iterdir()]
    cells = [cell for text in texts for row in csv.reader(io.StringIO(text)) for cell in row]

    assert [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))] == []
    assert "'@SUM(A1)" in {each["reason"] for each in rows(hostile, "actions")}


def test_no_text_is_a_formula_in_the_workbook(hostile: Path) -> None:
    book = load_workbook(hostile / "report.xlsx")

    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d", "b"}
    risky = [cell for cell in cells if isinstance(cell.value, str) and cell.value.lstrip().startswith(tuple("=+-@"))]
    assert risky
    assert all(cell.quotePrefix for cell in risky)
    assert all(cell.hyperlink is None for cell in cells)


def test_the_pdf_shows_hostile_texts_and_has_no_action(hostile: Path) -> None:
    reader = PdfReader(hostile / "report.pdf")

    text = "".join(page.extract_text() for page in reader.pages)
    assert "alert(1)" in text
    assert "/OpenAction" not in str(reader.trailer["/Root"])
    assert not any("/AA" in page or "/Annots" in page for page in reader.pages)


def test_the_pdf_says_that_its_font_lacks_characters(tmp_path: Path, made: Path) -> None:
    history = History()
    history.act(at(5), reason="修复完成")
    make(history.tool, tmp_path / "q3")

    def text(folder: Path) -> str:
        return " ".join("".join(page.extract_text() for page in PdfReader(folder / "report.pdf").pages).split())

    assert "lacks some characters" in text(tmp_path / "q3")
    assert "lacks some characters" not in text(made)
    assert "修复完成" in (tmp_path / "q3" / "report.html").read_text()


# ---------------------------------------------------------------- the same data in each form


def test_each_form_has_every_member(made: Path) -> None:
    pack = Pack.model_validate_json((made / "pack.json").read_bytes())
    named = {each.account for each in pack.members}
    book = load_workbook(made / "report.xlsx", read_only=True)

    assert {each["account"] for each in rows(made, "members")} == named
    assert {row[0] for row in book["members"].iter_rows(min_row=2, values_only=True)} == named
    page = (made / "report.html").read_text()
    paper = "".join(each.extract_text() for each in PdfReader(made / "report.pdf").pages)
    assert all(each in page for each in named)
    assert all(each in re.sub(r"\s", "", paper) for each in named)


def test_each_list_of_the_pack_is_a_sheet_and_a_csv_file_with_as_many_rows(made: Path) -> None:
    pack = json.loads((made / "pack.json").read_bytes())
    lists = {name: value for name, value in pack.items() if isinstance(value, list)}
    book = load_workbook(made / "report.xlsx")

    assert {name: len(rows(made, name)) for name in lists} == {name: len(value) for name, value in lists.items()}
    assert set(book.sheetnames) == {*lists, "summary", "latency"}
    assert {name: book[name].max_row - 1 for name in lists if lists[name]} == {
        name: len(value) for name, value in lists.items() if value
    }


def test_times_are_times_in_the_workbook(made: Path) -> None:
    sheet = load_workbook(made / "report.xlsx")["members"]

    column = [cell.value for cell in sheet[1]].index("joined at") + 1
    assert isinstance(sheet.cell(2, column).value, datetime)
    assert sheet.freeze_panes == "A2"


def test_a_table_that_is_cut_says_so_and_the_data_is_not_cut(tmp_path: Path) -> None:
    history = History()
    history.required = ("p-aaaaaaaa",)
    for number in range(1_005):
        history.fail(f"{number:012d}", at(1 + number % 90), code="AccessDeniedException")

    make(history.tool, tmp_path / "q3")

    assert "The first 1,000 of 1,005; the spreadsheet and the CSV have all of them." in (
        tmp_path / "q3" / "report.html"
    ).read_text().replace("&#39;", "'")
    assert len(rows(tmp_path / "q3", "failures")) == 1_005


def test_a_sheet_that_is_cut_says_so_in_its_last_row() -> None:
    long, short = (Sheet(name, ("key", "size"), [(f"k{n}", n) for n in range(rows)]) for name, rows in SHEETS.items())

    book = load_workbook(io.BytesIO(workbook([long, short], at(1), "a pack", max_rows=3)))

    assert [[cell.value for cell in row] for row in book["long"].rows] == [
        ["key", "size"],
        ["k0", 0],
        ["k1", 1],
        ["The first 2 of 4 rows: no more fit in a sheet. csv/long.csv has all of them.", None],
    ]
    assert book["short"].max_row == 4
    assert book["short"]["A4"].value == "k2"


def test_columns_are_as_wide_as_their_texts_within_limits() -> None:
    table = Sheet(
        "table", ("key", "why", "note", "none"), [("k", "w" * 30, "n" * 500, None), ("k", "w" * 29, "n", None)]
    )

    page = load_workbook(io.BytesIO(workbook([table], at(1), "a pack")))["table"]

    widths = [page.column_dimensions[letter].width for letter in "ABCD"]
    # Excel adds the width of the margins of a cell, less than one character.
    assert [int(each) for each in widths] == [10, 31, 60, 10]


# ---------------------------------------------------------------- packages


def test_a_missing_package_is_named_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An entry of None makes the import fail, as for a package that is not installed.
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    history = quarter()

    result = history.tool.run("evidence", str(tmp_path / "q3"), *period())

    assert re.search(r"xlsxwriter.*not installed.*joinguard\[evidence\]", str(result.exception))
    assert history.tool.reader.calls.total() == 0


def test_no_other_command_imports_what_renders_packs() -> None:
    code = """if True:
        import sys
        from handlers.operate.__main__ import cli
        from handlers.operate import packing, covering, planning, sweeping
        print(sorted({"jinja2", "reportlab", "xlsxwriter"} & {name.split(".")[0] for name in sys.modules}))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own code

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("most", [*range(1, 30), 99, 1000])
def test_the_axis_of_a_chart_repeats_no_number(most: int) -> None:
    chart = svg(latency_chart([("first", most), ("second", 1)]))

    axis = re.findall(r">([0-9,]+)</text>", chart)
    # Each bar has a label with its number, too.
    for each in (f"{most:,}", "1"):
        axis.remove(each)
    assert len(axis) > 1
    assert sorted(set(axis)) == sorted(axis)
