"""Why a picture file is not read: a closed list, so that no value of a header reaches a report, a log or a screen.

Each reason says what is true of the file, and what a person can do about it. docs/intake-reasons.md is this list.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Self

from sonoshare_shared.errors import InputError


class Because(Enum):
    """A reason: name, and (what is true, what to do). Its value is both in one line.

    Attributes:
        fact: what is true of the file.
        remedy: what to do.
    """

    fact: str
    remedy: str

    def __new__(cls, fact: str, remedy: str) -> Self:
        """A member whose value is what a person reads."""
        member = object.__new__(cls)
        member._value_ = f"{fact}; {remedy}"
        member.fact, member.remedy = fact, remedy
        return member


class Reason(Because):
    """Why a file cannot be read, whoever reads."""

    # Of any file.
    MISSING = "the file is not there", "correct the path in its row"
    UNREADABLE = "the file may not be read", "let this user read it"
    OUTSIDE = "the path leaves the source folder", "copy the file into the folder, links are not followed out of it"
    NOT_A_FILE = "not an ordinary file", "name a file in its row"
    EMPTY = "the file is empty", "export or copy it again"
    TOO_LARGE = "the file is larger than intake accepts", "export a still or a shorter loop"
    # Of any picture.
    UNKNOWN_FORMAT = "neither DICOM, PNG nor JPEG", "export it as one of the three"
    WRONG_NAME = "the name says one format, the content is another", "find out which file this is, then rename it"
    BROKEN = "the content is broken or cut short", "export or copy it again"
    DIMENSIONS = "the dimensions are zero or larger than intake accepts", "export it in screen size"
    MEMORY = "decoding needs more memory than intake allows", "export a still in screen size"
    ANIMATED = "more than one frame", "of a DICOM clip name one in the column frame of its row, else save one picture"
    FRAME = "the file has no frame of this number", "correct the column frame of its row: the first frame is 1"
    CLIP_LESION = (
        "a mask or box of a clip, and no frame that it was drawn on",
        "give the frame in the column frame of its row: the first frame is 1",
    )
    MODE = "a pixel format that is not a grey or colour picture", "save it as an 8-bit grey picture"
    BLANK = "the picture is blank, or nearly", "see whether the right file or region was exported"
    FEW_LEVELS = "the picture has hardly more than two grey levels", "name the picture itself, this may be its mask"
    SMALL = "what is kept of the picture is smaller than intake accepts", "export it in full size, not as a thumbnail"
    SHAPE = "the picture is a narrow strip", "export the whole screen, this may be a scale or a bar"
    COLOUR = (
        "colour lies over the picture (flow, elastography or the like)",
        "export the B-mode picture, or let intake.colour of policy.toml take it in as grey",
    )
    # Of DICOM.
    NOT_ULTRASOUND = (
        "not an ultrasound picture: neither an Ultrasound (Multi-frame) Image nor a Secondary Capture of modality US",
        "leave it out, or export the ultrasound picture itself",
    )
    VOLUME = (
        "an ultrasound volume that does not say that it is tissue intensity",
        "export the slices that matter as ultrasound images",
    )
    DIRECTORY = "a DICOMDIR, a list of files and not an image", "name the images that it lists"
    DEFLATED = "the deflated data set is broken, or grows larger than intake accepts", "store it without deflating"
    SYNTAX = (
        "a compression or transfer syntax that is not read",
        "store it uncompressed or as JPEG 2000",
    )
    NO_DECODER = (
        "no decoder for its compression is installed here",
        "install the client extra, or store it uncompressed",
    )
    NESTING = "sequences are nested too deeply", "export it again, from the archive or the scanner"
    NO_PIXELS = "no pixel data", "export the image itself, this is a report or a stub"
    PIXEL_LENGTH = "the pixel data is shorter than the header says", "export or copy it again"
    BITS = "bits allocated, stored and high bit do not fit together", "export it again with 8 bits"
    PHOTOMETRIC = "the photometric interpretation is unknown or does not fit the samples", "export it as RGB or grey"
    CONTRADICTION = (
        "header and compressed data contradict each other in size, samples or colour",
        "export it again, uncompressed",
    )
    PALETTE = "a palette image without a usable palette", "export it as RGB or grey"
    NO_REGION = (
        "no ultrasound region in the header, and no single ultrasound picture is found on the screen",
        "export the picture without its surroundings",
    )
    REGION_OUTSIDE = (
        "the ultrasound region lies outside the picture",
        "the picture was cut or resized after the scanner: export the original",
    )
    REGION_SMALL = "the ultrasound region is too small", "export it in full size"
    SEVERAL_REGIONS = "several B-mode pictures on one screen", "give the lesion's box or mask in its row, it says which"
    COLOUR_FLOW = (
        "a colour flow region over the picture",
        "export the B-mode picture, or let intake.colour of policy.toml take it in as grey",
    )
    # Of text in the picture.
    TEXT_UNREAD = "the picture must be looked through for text, and no reader is installed", "install the client extra"
    TEXT_PAGE = "more text than a picture has: a page or a report", "export the picture alone"
    TEXT_OVER_LESION = "text that may name a person lies over the lesion", "export the picture without annotations"
    TEXT_COVERS = "text that may name a person covers much of the picture", "export it without annotations"
    TEXT_REMAINS = "text that may name a person can still be read after blanking", "export it without annotations"
    # Of labels.
    BOX = "the box is empty or reaches outside the picture or its ultrasound region", "correct the box, in its pixels"
    MASK_UNREADABLE = "the mask cannot be read", "save it as PNG"
    MASK_SIZE = "the mask and the picture differ in size", "draw the mask on the whole picture as it is displayed"
    MASK_OUTSIDE = "the mask reaches outside the ultrasound region", "correct the mask, or name the right picture"
    MASK_LOSSY = (
        "the mask was compressed with loss (JPEG), its border is noise",
        "save it as PNG where it was drawn",
    )
    MASK_FULL = "the mask covers the whole picture", "draw the lesion, or name no mask"
    MASK_INVERTED = "the mask covers the border of the picture and not its inside", "invert it: the lesion is not zero"
    MASK_EMPTY = "the mask is empty although a box is given", "remove the box, or name the right mask"


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """Raised where a file is read: this one is set aside.

    Args:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@contextmanager
def as_reasons() -> Iterator[None]:
    """Whatever a file does to a decoder becomes a reason."""
    try:
        yield
    except (Refused, InputError):
        raise
    except MemoryError as error:
        raise Refused(Reason.MEMORY) from error
    except RecursionError as error:
        raise Refused(Reason.NESTING) from error
    except Exception as error:
        raise Refused(Reason.BROKEN) from error
