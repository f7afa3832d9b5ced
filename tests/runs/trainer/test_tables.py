"""Tables as text, Markdown and CSV."""

from wgf.runs.trainer import tables

ROWS = [{"x": "1", "long name": "2"}, {"x": "333", "long name": "4"}]


def test_tables_are_aligned_and_marked_down():
    assert tables.text(ROWS) == "x    long name\n1    2\n333  4\n"
    assert tables.markdown(ROWS) == "| x | long name |\n| --- | --- |\n| 1 | 2 |\n| 333 | 4 |\n"


def test_a_table_is_written_three_times_and_its_note_below_what_a_person_reads(tmp_path):
    shown = tables.write(tmp_path / "found", ROWS, "A note.")
    assert shown == (tmp_path / "found.txt").read_text() == tables.text(ROWS) + "\nA note.\n"
    assert (tmp_path / "found.md").read_text() == tables.markdown(ROWS) + "\nA note.\n"
    assert (tmp_path / "found.csv").read_text().splitlines() == ["x,long name", "1,2", "333,4"]
    assert tables.write(tmp_path / "bare", ROWS) == tables.text(ROWS)
    assert (tmp_path / "bare.md").read_text() == tables.markdown(ROWS)
