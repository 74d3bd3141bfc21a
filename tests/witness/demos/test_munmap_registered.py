from labkit.host.memory.frames import Frames
from labkit.witness.demos import munmap_registered
from labkit.witness.demos.munmap_registered import DEMO, model

AFTER = {
    "WRITE from the address, after munmap": "-EFAULT",
    "WRITE_FIXED, after munmap": 65536,
    "READ_FIXED, after munmap": 65536,
    "bytes of the file, after munmap": "those of the buffer",
}


def test_only_the_address_is_lost():
    rows = {row[0]: row[1:] for row in DEMO.replay().seen.rows}
    assert rows["WRITE from the address"] == [65536, "-EFAULT"]
    assert rows["WRITE_FIXED"] == rows["READ_FIXED"] == [65536, 65536]
    assert rows["bytes of the file"] == ["those of the buffer"] * 2
    assert rows["pages that are mapped"] == [16, 0]


def test_the_model_says_the_same():
    assert model() == AFTER


def test_who_sees_no_frames_is_told_the_rest(monkeypatch, live):
    real = munmap_registered.frames
    monkeypatch.setattr(munmap_registered, "frames", lambda *at: Frames(None, real(*at).exclusive))
    assert live(DEMO).seen.answers == AFTER
