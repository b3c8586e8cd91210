"""Every kind of source that a configuration can name as its dataset; none of them imports torch."""

from poslab.data.algorithmic.examples import AlgorithmicExamples
from poslab.data.corpus import Corpus
from poslab.data.examples.source import ExampleSource
from poslab.data.patched.source import PatchedSource

AnySource = Corpus | ExampleSource | AlgorithmicExamples | PatchedSource
