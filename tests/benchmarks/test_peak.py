import pytest
import torch
from affordable import Affordable, _continued
from peak import resident_bytes, resident_peak_bytes

from poslab.experiments.speed import peak_bytes

MIB = 2**20


def test_the_peak_of_a_call_is_what_it_held_at_once_beyond_what_was_there():
    kept = torch.zeros(MIB)

    def call():
        first = torch.zeros(MIB)  # 4 MiB each
        second = first + kept
        del first
        return second.mul_(2) + 1  # beside `second`; two are held at once, never three

    assert peak_bytes(call) == pytest.approx(8 * MIB, abs=64)  # and the numbers 2 and 1


def test_the_peak_of_the_process_is_at_least_what_it_has_now():
    held = torch.ones(4 * MIB)
    assert held.nbytes < resident_bytes() <= resident_peak_bytes()


def test_what_grows_with_length_and_its_square_is_known_from_the_probes():
    def figure(length):
        return 3 * length + 0.5 * length**2

    assert _continued(figure(512), figure(1024), 8192) == figure(8192)


def test_what_would_not_fit_is_left_out_with_its_reason():
    def make(length):
        return lambda: torch.zeros(16 * length, length)  # 64 GiB at 32,768

    affordable = Affordable(make, seconds=1e9)
    assert affordable.reason_against(1024) is None
    assert affordable.reason_against(32_768).startswith("would hold about 64 GiB")
