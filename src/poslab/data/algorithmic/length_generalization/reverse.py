"""Reversal of a string once or twice, and followed by the string itself."""

from poslab.data.algorithmic.length_generalization.copy import NEXT, Copy, CopyTwice


class Reverse(Copy):
    """A random string of words backwards.

        w7 w0 w98  ->  w98 w0 w7

    `length` is the number of input words, at least 1, and of output words. The paper's text is "Reverse: Q 0 !" and,
    after a separator, "! 0 Q"; its words are characters and others that are tokens of T5.

    Args:
        num_words: different words, at least 2 (paper: 100).

    Source: Kazemnejad et al. (NeurIPS 2023), table 1; in the authors' code, `multi_char`.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string[::-1]


class ReverseTwice(CopyTwice):
    """A random string of words backwards, twice, with a mark between.

        w7 w0 w98  ->  w98 w0 w7 [NEXT] w98 w0 w7

    `length` is the number of input words; the output has twice as many and the mark. All else is as in `Reverse`; in
    the authors' code, `multi_char_2x`.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return *string[::-1], NEXT, *string[::-1]


class ReverseThenCopy(CopyTwice):
    """A random string of words backwards, then as it is, with a mark between.

        w7 w0 w98  ->  w98 w0 w7 [NEXT] w7 w0 w98

    `length` is the number of input words; the output has twice as many and the mark. All else is as in `Reverse`; in
    the authors' code, `multi_char_rev_cop`.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return *string[::-1], NEXT, *string
