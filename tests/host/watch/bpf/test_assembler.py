import pytest

from labkit.errors import BadInput
from labkit.host.watch.bpf.assembler import assemble


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("r0 = 0", "b7 00 0000 00000000"),
        ("r7 = r1", "bf 17 0000 00000000"),
        ("r1 += -8", "07 01 0000 f8ffffff"),
        ("r3 += r9", "0f 93 0000 00000000"),
        ("r6 -= r1", "1f 16 0000 00000000"),
        ("r1 *= 16", "27 01 0000 10000000"),
        ("r2 &= 255", "57 02 0000 ff000000"),
        ("r2 <<= 3", "67 02 0000 03000000"),
        ("r2 >>= 3", "77 02 0000 03000000"),
        ("r7 = *(u64 *)(r1 + 8)", "79 17 0800 00000000"),
        ("r9 = *(u32 *)(r10 - 8)", "61 a9 f8ff 00000000"),
        ("r9 = *(u16 *)(r10 - 8)", "69 a9 f8ff 00000000"),
        ("r9 = *(u8 *)(r10 - 8)", "71 a9 f8ff 00000000"),
        ("*(u32 *)(r10 - 8) = r1", "63 1a f8ff 00000000"),
        ("*(u64 *)(r8 + 72) = r6", "7b 68 4800 00000000"),
        ("lock *(u64 *)(r0 + 0) += r1", "db 10 0000 00000000"),
        ("call ringbuf_reserve", "85 00 0000 83000000"),
        ("exit", "95 00 0000 00000000"),
        ("r1 = map ring", "18 11 0000 07000000 00 00 0000 00000000"),
        ("r0 = 1 ; a remark", "b7 00 0000 01000000"),
        ("; a remark", ""),
    ],
)
def test_a_line_is_what_rfc_9669_says(line, code):
    assert assemble(line, {"ring": 7}) == bytes.fromhex(code)


@pytest.mark.parametrize(
    ("test", "code"),
    [
        ("r0 != 0", "55 00 0000 00000000"),
        ("r0 == r2", "1d 20 0000 00000000"),
        ("w9 == -1", "16 09 0000 ffffffff"),
        ("w9 >= r1", "3e 19 0000 00000000"),
        ("r9 > 5", "25 09 0000 05000000"),
        ("r9 < 5", "a5 09 0000 05000000"),
        ("r9 <= 5", "b5 09 0000 05000000"),
    ],
)
def test_a_test_jumps_over_what_is_between_it_and_its_label(test, code):
    assert assemble(f"if {test} goto next\nnext:\nexit") == bytes.fromhex(code + "95 00 0000 00000000")


def test_labels_lead_forwards_and_backwards_and_a_map_counts_twice():
    code = assemble("again:\ngoto end\nr1 = map ring\ngoto again\nend:\nexit", {"ring": 3})
    offsets = [int.from_bytes(code[at + 2 : at + 4], "little", signed=True) for at in range(0, len(code), 8)]
    assert offsets == [3, 0, 0, -4, 0]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("r1 = ", "bpf: r1 = is no instruction"),
        ("hello", "bpf: hello is no instruction"),
        ("r1 += 8 r2", "is no instruction"),
        ("call printf", "bpf: call printf names 'printf', which is unknown"),
        ("r1 = map other", "names 'other', which is unknown"),
        ("r1 = *(u63 *)(r2 + 0)", "names 'u63', which is unknown"),
        ("goto nowhere", "bpf: goto nowhere leads to no label"),
    ],
)
def test_what_is_no_instruction_is_bad_input(line, why):
    with pytest.raises(BadInput, match=rf"{why}.*\(-EINVAL\)"):
        assemble(line, {"ring": 7})
