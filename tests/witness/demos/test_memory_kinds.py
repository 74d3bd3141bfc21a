from labkit.host import vvar
from labkit.witness.demos.memory_kinds import DEMO


def test_what_the_cpu_may_copy_direct_io_refuses():
    kept = {row[0]: row[1:] for row in DEMO.replay().seen.rows}
    assert kept["vvar"] == ["-EFAULT", 4096]
    assert kept["secretmem"] == ["-EFAULT", 4096]
    assert kept["4KiB"] == [4096, 4096]


def test_a_kernel_that_lets_vvar_be_written_is_told_as_a_difference(monkeypatch):
    monkeypatch.setattr(vvar, "ask", lambda: (vvar.Said("4KiB", 4096, 4096), vvar.Said("vvar", 4096, 4096)))
    assert DEMO.show().differences == ("O_DIRECT write of a page of vvar",)


def test_a_kernel_without_secret_memory_is_asked_about_the_rest(monkeypatch):
    monkeypatch.setattr(vvar, "ask", lambda: (vvar.Said("4KiB", 4096, 4096),))
    assert DEMO.show().agree
