"""The page's colours have the contrast that WCAG 2 AA asks of text (4.5), in light and in dark."""

import re
import unittest

from servers import ROOT

TEXT = ("ink", "soft", "accent", "good", "warn", "bad")
GROUNDS = ("ground", "panel", "own")


def luminance(colour):
    parts = [int(colour[index:index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


class Colours(unittest.TestCase):
    def test_contrast(self):
        style = (ROOT / "Sources" / "Gateway" / "Viewer" / "style.css").read_text(encoding="utf-8")
        schemes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)]
        self.assertEqual(len(schemes), 2, "light and dark")
        for scheme in schemes:
            for text in TEXT:
                for ground in GROUNDS:
                    self.assertGreaterEqual(contrast(scheme[text], scheme[ground]), 4.5, f"{text} on {ground}")
            self.assertGreaterEqual(contrast(scheme["accent-ink"], scheme["accent"]), 4.5)


if __name__ == "__main__":
    unittest.main(verbosity=2)
