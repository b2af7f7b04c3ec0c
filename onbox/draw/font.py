"""A font of 3 x 5 dots, enough for numbers and names; small letters are drawn as capitals."""

from typing import Tuple

WIDTH, HEIGHT = 3, 5
# A character, then its five rows from the top, each an octal digit: 4 is the left dot, 1 the right one.
_GLYPHS = """
A25755 B65656 C34443 D65556 E74747 F74744 G34553 H55755 I72227 J11152 K55655 L44447 M57755 N65555 O25552
P65644 Q25563 R65655 S34216 T72222 U55557 V55552 W55775 X55255 Y55222 Z71247
075557 126227 271747 371717 455711 574717 674757 771222 875757 975717
-00700 +02720 .00002 ,00024 :02020 _00007 =07070 /11244 (12221 )42224 %51245 [64446 ]31113 *05250 #57575
<12421 >42124 !22202 ?61202 @25743 |22222 '22000 "55000 ^25000 ~03600 &25256 ;02024 {32623 }62326
$36236 \\44211
"""
_TABLE = {glyph[0]: tuple(int(row) for row in glyph[1:]) for glyph in _GLYPHS.split()}
_TABLE[" "] = (0, 0, 0, 0, 0)
_UNKNOWN = (7, 5, 5, 5, 7)


def glyph(char: str) -> Tuple[int, ...]:
    """Five rows of three bits; a box for a character that the font does not have."""
    return _TABLE.get(char.upper(), _UNKNOWN)
