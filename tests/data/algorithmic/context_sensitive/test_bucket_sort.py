from poslab.data.algorithmic.context_sensitive.bucket_sort import BucketSort
from tests.data.algorithmic.solving import assert_solved, drawn


def test_bucket_sort_sorts():
    assert_solved(BucketSort(), lambda string: sorted(string, key=int))


def test_bucket_sort_goes_by_number_where_there_are_more_than_ten_symbols():
    for length, example in drawn(BucketSort(num_symbols=30)):
        assert len(example.input) == length
        assert [*example.output] == sorted(example.input, key=int)
