"""From labels to domains: a domain is there when any of its labels is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput
from radlens.core.vocabulary import Vocabulary


def domain_targets(targets: npt.NDArray[np.float32], vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
    """(N, L) label targets -> (N, K) domain targets, domains in the vocabulary's order.

    1 where any label is 1; 0 where at least one label is assessed and all assessed ones are 0; NaN where none is.
    """
    out = np.full((len(targets), len(vocabulary.domains)), np.nan, np.float32)
    for k, labels in enumerate(_columns(vocabulary)):
        part = targets[:, labels]
        out[(part == 0).any(axis=1), k] = 0
        out[(part == 1).any(axis=1), k] = 1
    return out


def domain_inputs(inputs: MetricInput, vocabulary: Vocabulary) -> MetricInput:
    """Label inputs -> domain inputs (N, K): target and decision are the OR over the domain's labels, score the maximum.

    Decision and score look at the labels assessed on the image only: a finding that nobody looked for can be neither
    right nor wrong.
    """
    assessed = ~np.isnan(inputs.targets)
    shape = (len(inputs.targets), len(vocabulary.domains))
    scores, decisions = np.zeros(shape), np.zeros(shape, np.int8)
    for k, labels in enumerate(_columns(vocabulary)):
        known = assessed[:, labels]
        scores[:, k] = np.where(known, inputs.scores[:, labels], -np.inf).max(axis=1)
        decisions[:, k] = ((inputs.decisions[:, labels] == 1) & known).any(axis=1)
    return MetricInput(scores, domain_targets(inputs.targets, vocabulary), decisions)


def _columns(vocabulary: Vocabulary) -> list[list[int]]:
    return [[vocabulary.index(name) for name in names] for names in vocabulary.domains.values()]
