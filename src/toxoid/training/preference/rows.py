"""What comes at each position of a training: a group, and the anchors whose turn it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

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
        order: The groups of an epoch, in the order in which all processes together see them.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        margins: Sequence[npt.NDArray[np.float32]],
        rotation: AnchorRotation,
        order: Callable[[int], Sequence[int]],
    ) -> None:
        self._layouts = layouts
        self._margins = margins
        self._rotation = rotation
        self._order = order
        self._epoch = -1
        self._groups: Sequence[int] = ()

    def __len__(self) -> int:
        """Return the number of groups: of positions there is no end."""
        return len(self._layouts)

    def __getitem__(self, position: int) -> PreferenceRow:
        """Return the group at a position and its anchors."""
        epoch, place = divmod(position, len(self._layouts))
        if epoch != self._epoch:
            self._epoch, self._groups = epoch, self._order(epoch)
        group = self._groups[place]
        return PreferenceRow(self._layouts[group], self._margins[group], tuple(self._rotation.at(position)))
