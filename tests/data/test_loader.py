"""mpbench.data.loader: every image once an epoch, a few batches ahead, and nothing while paused."""

import threading
import time
from concurrent.futures import CancelledError
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import GOOD, data_set
from numbered_images import Numbers, numbers
from waiting import until

from mpbench.data.decoding import UndecodableImage
from mpbench.data.loader import AHEAD_BATCHES, Files, Loader


def joined(lists):
    return [*chain.from_iterable(lists)]


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mpbench-images")]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    workers=st.integers(1, 5),
    ahead=st.integers(1, 3),
    at_once=st.sampled_from([1, 3, None]),
    seed=st.sampled_from([None, 0]),
)
def test_an_epoch_holds_every_image_once(count, batch_size, workers, ahead, at_once, seed):
    source = Numbers(count, at_once)
    with Loader(source, batch_size, workers=workers, ahead=ahead, seed=seed, endless=False) as loader:
        taken = [numbers(batch) for batch in loader]
    assert [len(part) for part in taken[:-1]] == [batch_size] * (len(taken) - 1)
    assert sorted(joined(taken)) == list(range(count))
    assert seed is not None or joined(taken) == list(range(count))
    assert not own_threads()


def test_epochs_follow_one_another_each_in_an_order_of_its_own():
    def orders(seed):
        with Loader(Numbers(10), 4, workers=3, seed=seed) as loader:
            taken = joined(numbers(next(loader)) for _ in range(10))
        return [taken[start : start + 10] for start in range(0, 40, 10)]

    shuffled = orders(1)
    assert all(sorted(order) == list(range(10)) for order in shuffled)
    assert len({tuple(order) for order in shuffled}) == 4
    assert orders(1) == shuffled
    assert orders(2) != shuffled
    assert orders(None) == [list(range(10))] * 4


def test_a_batch_larger_than_the_set_is_filled_by_several_epochs():
    with Loader(Numbers(3), 8) as loader:
        assert numbers(next(loader)) == [0, 1, 2, 0, 1, 2, 0, 1]


def test_no_images_no_batches():
    with Loader(Numbers(0), 4, endless=False) as loader:
        assert list(loader) == []


def test_it_works_so_many_batches_ahead_and_no_further():
    source = Numbers(100)
    with Loader(source, 4, workers=3) as loader:
        for taken in range(3):
            until(lambda: loader.ready == AHEAD_BATCHES)
            assert len(source.fetched) == 4 * (taken + AHEAD_BATCHES)
            next(loader)


def test_while_paused_no_image_is_begun():
    source = Numbers(1000, wait=lambda: time.sleep(0.001))
    with Loader(source, 4, workers=4, ahead=3) as loader:
        next(loader)
        loader.pause()
        before = len(source.fetched)
        while loader.ready:
            next(loader)
        time.sleep(0.05)
        assert len(source.fetched) == before
        loader.resume()
        assert numbers(next(loader))
        assert len(source.fetched) > before


def test_a_loader_may_begin_paused():
    source = Numbers(10)
    with Loader(source, 4, paused=True) as loader:
        time.sleep(0.02)
        assert source.fetched == []
        loader.resume()
        assert numbers(next(loader)) == [0, 1, 2, 3]


def test_pausing_waits_for_the_images_in_the_making():
    let_go, began = threading.Event(), threading.Event()
    source = Numbers(10, wait=lambda: (began.set(), let_go.wait()))
    with Loader(source, 4, workers=2) as loader:
        began.wait()
        pausing = threading.Thread(target=loader.pause)
        pausing.start()
        pausing.join(0.02)
        assert pausing.is_alive()
        let_go.set()
        pausing.join()
        assert len(source.fetched) == 2


def test_a_closed_loader_has_no_more_batches():
    loader = Loader(Numbers(10), 4)
    next(loader)
    loader.close()
    assert own_threads() == []
    loader.resume()
    loader.close()
    assert list(loader) == []


def test_while_paused_a_batch_that_is_not_whole_is_an_error_and_no_endless_wait():
    with Loader(Numbers(10, wait=lambda: time.sleep(0.01)), 4, workers=1) as loader:
        loader.pause()
        with pytest.raises(CancelledError):
            next(loader)


def test_a_failure_belongs_to_its_batch(tmp_path):
    members = data_set(tmp_path, [[GOOD] * 10]).images
    members[5].path.write_bytes(b"x")
    loader = Loader(Files(members, 8), 4)
    assert next(loader).valid == 4
    with pytest.raises(UndecodableImage, match=r"0\.005\.jpg: not an image"):
        next(loader)
    assert not own_threads()
