import pytest
import torch

from poslab.encodings.relative.scores import skew


@pytest.mark.parametrize(("rows", "keys"), [(1, 1), (1, 6), (6, 6), (4, 9), (9, 4)])
def test_skewing_gives_each_key_the_column_of_its_distance(rows, keys):
    scores = torch.arange(2.0 * rows * (rows + keys - 1)).view(2, rows, -1) + 1
    for columns in range(1, rows + keys):
        skewed = skew(scores[..., :columns], keys)
        assert skewed.shape == (2, rows, keys)
        for r in range(rows):
            for j in range(keys):
                column = rows - 1 - r + j
                expected = scores[:, r, column] if column < columns else torch.zeros(2)
                assert torch.equal(skewed[:, r, j], expected)


def test_skewing_the_square_of_the_paper_is_its_pad_and_reshape_below_the_diagonal():
    """Huang et al. 2019, section 3.4.1: pad a column on the left, reshape to (L + 1, L), drop the first row."""
    scores = torch.randn(3, 7, 7)
    padded = torch.nn.functional.pad(scores, (1, 0)).reshape(3, 8, 7)[:, 1:]
    assert torch.equal(skew(scores, 7).tril(), padded.tril())
    assert (skew(scores, 7).triu(1) == 0).all()
