"""The rows of a soak as an SVG: resident memory and latency over time."""

WIDTH, PANEL, LEFT, GAP = 720, 150, 60, 40


def panel(rows, top, series, unit):
    """One chart: lines of (name, key, colour) from 0 to their maximum."""
    values = [row[key] for _, key, _ in series for row in rows if key in row]
    highest = max(values) * 1.1 or 1
    end = rows[-1]["t"] or 1
    x = lambda t: LEFT + t / end * (WIDTH - LEFT - 10)
    y = lambda v: top + PANEL - v / highest * PANEL
    parts = [f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 10}" height="{PANEL}" fill="none" stroke="#ccc"/>']
    for share in (0, 0.5, 1):
        parts.append(f'<text x="{LEFT - 6}" y="{y(highest * share) + 4:.1f}" text-anchor="end">{highest * share:.3g}</text>')
    for i, (name, key, colour) in enumerate(series):
        points = " ".join(f"{x(row['t']):.1f},{y(row[key]):.1f}" for row in rows if key in row)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + 8 + 150 * i}" y="{top - 6}" fill="{colour}">{name}, {unit}</text>')
    for minute in range(0, int(end // 60) + 1, max(1, int(end // 600))):
        parts.append(f'<text x="{x(minute * 60):.1f}" y="{top + PANEL + 14}" text-anchor="middle">{minute} min</text>')
    return parts


def draw(rows):
    height = 2 * (PANEL + GAP) + GAP
    parts = panel(rows, GAP, [("resident memory", "rss_mib", "#1b6ca8")], "MiB")
    parts += panel(rows, 2 * GAP + PANEL, [("latency p50", "latency_p50", "#2a9d5c"), ("p99", "latency_p99", "#c8553d")], "s")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">'
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>' + "".join(parts) + "</svg>\n")
