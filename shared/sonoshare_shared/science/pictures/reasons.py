"""Why a picture file is not read: a closed list, so that no value of a header reaches a report, a log or a screen."""

from enum import Enum


class Reason(Enum):
    """Name: what a person reads."""

    # Of any file.
    MISSING = "the file is not there"
    UNREADABLE = "the file may not be read"
    OUTSIDE = "the path leaves the source folder"
    NOT_A_FILE = "not an ordinary file"
    EMPTY = "the file is empty"
    TOO_LARGE = "the file is larger than intake accepts"
    # Of any picture.
    UNKNOWN_FORMAT = "neither DICOM, PNG nor JPEG"
    WRONG_NAME = "the name says one format, the content is another"
    BROKEN = "the content is broken or cut short"
    DIMENSIONS = "the dimensions are zero or larger than intake accepts"
    MEMORY = "decoding needs more memory than intake allows"
    ANIMATED = "more than one frame; cine loops are not taken in yet: export the frames that matter"
    MODE = "a pixel format that is not a grey or colour picture"
    # Of DICOM.
    NOT_ULTRASOUND = "not an ultrasound image object"
    DIRECTORY = "a DICOMDIR, not an image"
    DEFLATED = "deflated transfer syntax; store it uncompressed"
    SYNTAX = "a transfer syntax that is not accepted; store it uncompressed"
    NO_DECODER = "no decoder for its compression is installed here; store it uncompressed"
    NESTING = "sequences nested too deeply"
    NO_PIXELS = "no pixel data"
    PIXEL_LENGTH = "the pixel data is shorter than the header says"
    BITS = "bits allocated, stored and high bit do not fit together"
    PHOTOMETRIC = "the photometric interpretation does not fit the samples"
    PALETTE = "a palette image without a usable palette"
    NO_REGION = "no ultrasound region: what is outside the picture cannot be told from it"
    REGION_OUTSIDE = "the ultrasound region lies outside the picture"
    REGION_SMALL = "the ultrasound region is too small"
    SEVERAL_REGIONS = "several B-mode regions; a box or mask must say which"
    COLOUR_FLOW = "a colour flow region over the picture; only B-mode is taken in"
    # Of text in the picture.
    TEXT_UNREAD = (
        "the picture must be looked through for text, and no reader is installed; pip install 'sonoshare[client]'"
    )
    TEXT_PAGE = "more text than a picture has: a page or a report; export the picture alone"
    TEXT_OVER_LESION = "text that may name a person lies over the lesion; export the picture without annotations"
    TEXT_COVERS = "text that may name a person covers much of the picture; export it without annotations"
    TEXT_REMAINS = "text that may name a person can still be read after blanking; export it without annotations"
    # Of labels.
    BOX = "the box is empty or reaches outside the picture or its ultrasound region"
    MASK_UNREADABLE = "the mask cannot be read"
    MASK_SIZE = "the mask and the picture differ in size"
    MASK_OUTSIDE = "the mask reaches outside the ultrasound region"


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """Raised where a file is read: this one is set aside.

    Args:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason
