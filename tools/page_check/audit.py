"""The audit of axe-core (WCAG 2.2 A and AA, and its best practices) of a page as it is now."""

import json

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIZES = ((1280, 900), (360, 800))


class Audit:
    """`script` is axe.min.js; without one nothing is audited."""

    def __init__(self, script=None):
        self._script = script

    def check(self, page, state):
        """The page in this state, wide and narrow, light and dark."""
        if self._script is None:
            return
        if not page.evaluate("typeof axe === 'object'"):
            page.evaluate(f"{self._script.read_text()}; true")
        found = []
        for width, height in SIZES:
            for dark in (False, True):
                page.resize(width, height)
                page.dark(dark)
                outcome = page.evaluate(f"axe.run({{runOnly: {json.dumps(TAGS)}, resultTypes: ['violations']}}).then(r => r.violations.map("
                                        "v => v.id + ': ' + v.nodes.map(n => n.target.join(' ') + ' (' + n.failureSummary + ')').join(', ')))")
                found += [f"{width} px, {'dark' if dark else 'light'}: {violation}" for violation in outcome]
        page.resize(*SIZES[0])
        page.dark(False)
        assert not found, f"{state}: " + "\n".join(found)
        print(f"ok: audit, {state}", flush=True)
