from labkit.kernel.fs.cache.bios import Part, joined


def part(pos, dev, nbytes=4096, unwritten=False):
    return Part(pos, dev, 0x100000 + pos, nbytes, unwritten)


def test_parts_that_go_on_in_the_file_and_on_the_device_are_one_bio():
    one, two, three = part(0, 8192), part(4096, 12288), part(8192, 65536)
    assert joined([one, two, three]) == [[one, two], [three]]


def test_a_hole_in_the_file_ends_a_bio_though_the_device_goes_on():
    one, two = part(0, 8192), part(8192, 12288)
    assert joined([one, two]) == [[one], [two]]


def test_what_is_unwritten_has_a_bio_of_its_own():
    one, two = part(0, 8192), part(4096, 12288, unwritten=True)
    assert joined([one, two]) == [[one], [two]]


def test_a_bio_has_256_vectors_and_32_bits_of_bytes_at_most():
    assert [len(group) for group in joined(part(i * 4096, i * 4096) for i in range(600))] == [256, 256, 88]
    large = 1 << 31
    assert [len(group) for group in joined(part(i * large, i * large, large) for i in range(3))] == [1, 1, 1]


def test_nothing_makes_no_bio():
    assert joined([]) == []


def test_whoever_dies_while_sending_leaves_no_folio_locked(world):
    one = world()
    work = one.cache.read(1, 0, 262144, None)
    next(work)
    work.close()
    assert one.look()
