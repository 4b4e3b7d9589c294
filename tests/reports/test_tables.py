from recsys_mtl.reports.tables import table


def test_cells_are_escaped_and_words_are_set_as_text():
    page = table(["a", "<b>"], [["1", "x & y"]], words={1})
    assert page == (
        "<table><tr><th>a</th><th>&lt;b&gt;</th></tr>"
        '<tr><td>1</td><td class="words">x &amp; y</td></tr></table>'
    )
