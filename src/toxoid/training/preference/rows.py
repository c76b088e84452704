"""What comes at each position of a training: a group, and the anchors whose turn it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toxoid.training.batches import epoch_order
from toxoid.training.preference.anchors import AnchorRotation
from toxoid.training.preference.batches import PreferenceRow
from toxoid.training.preference.layout import Layout


class PreferenceRows:
    """The rows of a training by position: epoch x number of groups + place in the epoch.

    A pure function of position, so that a resumed training sees what an uninterrupted one would have seen.

    Args:
        layouts: The groups.
        margins: Of each group's pairs under the reference.
        rotation: The anchors.
        batch_size: Groups per forward pass, of all processes together.
        seed: Of the order of groups.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        margins: Sequence[npt.NDArray[np.float32]],
        rotation: AnchorRotation,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        self._layouts = layouts
        self._margins = margins
        self._rotation = rotation
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._order: list[int] = []

    def __len__(self) -> int:
        """Return the number of groups: of positions there is no end."""
        return len(self._layouts)

    def __getitem__(self, position: int) -> PreferenceRow:
        """Return the group at a position and its anchors."""
        epoch, place = divmod(position, len(self._layouts))
        if epoch != self._epoch:
            lengths = [len(layout) for layout in self._layouts]
            self._epoch = epoch
            self._order = epoch_order(lengths, batch_size=self._batch_size, seed=self._seed, epoch=epoch)
        group = self._order[place]
        return PreferenceRow(self._layouts[group], self._margins[group], tuple(self._rotation.at(position)))
