"""A lesion mask as a DICOM Segmentation object (PS3.3 A.51) that refers to its Ultrasound Image.

Nothing of it depends on the clock or on chance: what highdicom would draw or read is replaced.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Final

import numpy as np
from highdicom.content import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

_VERSION: Final = "1"
_SLICE_MM: Final = 1.0
"""Thickness that a Segmentation has to state where it states spacing; an ultrasound plane has none of its own."""


def segmentation(
    image: FileDataset, mask: NDArray[np.bool_], uids: Mapping[str, UID], mm_per_pixel: tuple[float, float] | None
) -> Segmentation:
    """The Segmentation object of a mask.

    Args:
        image: the Ultrasound Image that it belongs to.
        mask: bool [S, S], not empty.
        uids: of its ``series``, of the ``object`` and of its ``dimensions``.
        mm_per_pixel: millimetres of a pixel across and in depth, where they are known.
    """
    algorithm = AlgorithmIdentificationSequence(
        name="SonoShare", version=_VERSION, family=codes.DCM.ArtificialIntelligence
    )
    lesion = SegmentDescription(
        segment_number=1,
        segment_label="lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        anatomic_regions=[codes.SCT.Breast],
    )
    measures = None
    if mm_per_pixel is not None:
        across, deep = mm_per_pixel
        measures = PixelMeasuresSequence(pixel_spacing=(deep, across), slice_thickness=_SLICE_MM)
    made = Segmentation(
        [image],
        mask[np.newaxis].astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[lesion],
        series_instance_uid=uids["series"],
        series_number=2,
        sop_instance_uid=uids["object"],
        instance_number=image.InstanceNumber,
        manufacturer=image.Manufacturer,
        manufacturer_model_name="SonoShare",
        software_versions=_VERSION,
        device_serial_number="0",
        content_label="LESION",
        pixel_measures=measures,
    )
    _without_chance(made, image, uids["dimensions"])
    return made


def _without_chance(made: Segmentation, image: FileDataset, dimensions: UID) -> None:
    """Replace what was drawn or read from the clock, and mark the object as synthetic."""
    made.SyntheticData = "YES"
    made.PatientOrientation = ""
    made.ContributingEquipmentSequence = deepcopy(image.ContributingEquipmentSequence)
    made.ContentDate = made.SeriesDate = made.InstanceCreationDate = image.ContentDate
    made.ContentTime = made.SeriesTime = made.InstanceCreationTime = image.ContentTime
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
