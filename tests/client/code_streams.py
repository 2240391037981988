"""Code streams that no encoder here writes: 32 by 32 pixels, (7x + 5y) mod 256."""

import base64
from typing import Final

HTJ2K_32: Final = base64.b64decode("""
/0//UQApQAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAABBwEB/1AACAACAAAAAv9SAAwAAgABAAUEBEAB/1wAEyBIUFBQUFBQUFBQUFBQ
SEhI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAY8AAf+TwCXtAAd0AMASwBLAEoDkAQd0AJIBB3QAwwCHdADAE8ATwBUAAFrhAQh0AAAS
CgAhlAACEGR/AGOUAMAV8AV8AV4haEy4xfya/oBScjgCtwBHECzBaqyOWYAECgwAVwBBePQYFPGUV8aSXRwjlgDAF0EAXRQBbwBemSKxNwsQM+CWD0Pj
sZDWcgVReN7lyYro4V5fFAJbAOalUFTAMPl8cApK1CPhZKxZIRT15aBNK0hLJERYBXFT3gCBw17jUbcEncipzIogaB82IPnmQJXx4z05ODwDXADALuoB
d9ALqiTD/IdffIyHx08fw3w8vq+HwXiv3w8P8sPDz5cnPTw/Pcj55304MtOyTF05pcXybkdkcNkuLkdCeAH+P37P1+Pz63v/e/8+3+v7f/zj8/s+BAAg
Xv2rexAIAcD+q5yAk9+0VEpD7JPZYITV4WyfFDUeDDZLigBdAf7/T79/fv5+/3+/3+/Pzx9/f/3+/f6rnwBBdHQrgYHyjBOjlsMKSiBVAf/Z
""")
"""High-throughput JPEG 2000, encoded by OpenJPH 0.26."""

LOSSLESS_32: Final = base64.b64decode("""
/9j/wwALCAAgACABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAAAwj/2gAIAQEAAQAAn93d3d3d3d3d3d3d3d3d3d1d3d3d3d3d3d3d3d3d3d3dXd3d3d3d3d
3d3d3d3d3d3V3d3d3d3d3d3d3d3d3d3d1d3d3d3d3d3d3d3d3d3d3dXd3d3d3d3d3d3d3d3d3d3V3d3d3d3d3d3d3d3d3d3d1d3d3d3d3d3d3d3d3d3d3d
Xd3d3d3d3d3d3d3d3d3d4GV3d3d3d3d3d3d3d3d3d3eBld3d3d3d3d3d3d3d3d3d4GdXd3d3d3d3d3d3d3d3d3gZ3V3d3d3d3d3d3d3d3d3eBnd1d3d3d3
d3d3d3d3d3d3gZ3dXd3d3d3d3d3d3d3d3eBnd3V3d3d3d3d3d3d3d3d4Gd3d1d3d3d3d3d3d3d3d3eBnd3dXd3d3d3d3d3d3d3d4Gd3d3V3d3d3d3d3d3d
3d3gZ3d3d1d3d3d3d3d3d3d3eBnd3d3dXd3d3d3d3d3d3d3gZ3d3d3V3d3d3d3d3d3d3eBnd3d3d1d3d3d3d3d3d3d4Gd3d3d3dXd3d3d3d3d3d3eBnd3d
3d3V3d3d3d3d3d3d4Gd3d3d3d1d3d3d3d3d3d3gZ3d3d3d3dXd3d3d3d3d3eBnd3d3d3d3V3d3d3d3d3d3gZ3d3d3d3d1d3d3d3d3d3eBnd3d3d3d3dXd3
d3d3d3d4Gd3d3d3d3d3V3d3d3d3d3eBnd3d3d3d3d1d3d3d3d3d4Gd3d3d3d3d3f/9kA
""")
"""JPEG lossless, first-order prediction, encoded by gdcm 3.2."""

JPEG_LS_32: Final = base64.b64decode("""
/9j/9wALCAAgACABAREA/9oACAEBAAAAAIUVYq0/u3f/e22222220xkcm22kqqqr/Mb/f/9/Qj//f/97v/9//1E//3//dv9//3/b/3//f2//f/903/9//0
s3/3//dIs//3//UaT/f/99sy//f/9zl/9//zq6/3//fR6//3/2+v9//0vfX/9/65+v/3/3P6//f+X+v/9/fP8v/3/9/y//f5/9/3/y7/3/f+u//3//Xf9/
/39//3//X3//f/97/3//fP9//3+Xf/8A/9kA
""")
"""JPEG-LS lossless, encoded by gdcm 3.2 (CharLS)."""
