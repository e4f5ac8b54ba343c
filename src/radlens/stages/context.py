"""What every stage of one study has at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radlens.core.run_folder import RunFolder
from radlens.core.spec import StudySpec
from radlens.core.store import Cache
from radlens.progress import Teller

if TYPE_CHECKING:
    from radlens.core.classifier import Encoder
    from radlens.models.loading import ModelSource


@dataclass
class Context:
    """The study, where its files go, and the encoder, loaded once and only when a stage needs it."""

    spec: StudySpec
    run: RunFolder
    cache: Cache
    tell: Teller
    source: ModelSource
    skip_bad_images: bool = False
    _encoder: Encoder | None = field(default=None, repr=False)

    @property
    def loaded(self) -> bool:
        """Whether a stage has needed the encoder already."""
        return self._encoder is not None

    def encoder(self) -> Encoder:
        """The frozen encoder on the study's device."""
        if self._encoder is None:
            from radlens.models.loading import load_encoder

            self.tell.say(f"  loading {self.source.card.get('title', self.source.card['name'])}")
            self._encoder = load_encoder(self.source, self.spec.compute.device)
        return self._encoder
