from labkit.widgets import frames


def test_the_legend_names_only_what_is_drawn():
    assert [text for _, text in frames.scene([(4096, 7, 3)]).legend] == ["a run of pages", "looked at"]
    words = [text for _, text in frames.scene(*frames.sample()).legend]
    assert words == ["each bio in a look of its own", "a large folio", "no frame", "looked at"]


def test_the_text_tells_every_run():
    text = frames.scene(*frames.sample()).text
    assert text.splitlines()[0] == "43 pages in eight runs"
    assert "Four pages at PFN 0x41200" in text


def test_no_memory_is_no_picture():
    assert frames.scene([]).figures == {}
