"""Intervals and tests of eval/ by SciPy. Paired shares: Tango's score interval, the nuisance share found by maximising the likelihood. usage: make_statistics_golden.py > statistics.json      needs: scipy, numpy"""
import json
import numpy as np
from scipy import optimize, stats


def tango(lost, won, n):
    """Ends of the interval of (won - lost) / n, from the definition: no closed form is used."""
    def statistic(d):
        def negative_log_likelihood(q):  # q: share lost; won = q + d, unchanged = 1 - 2 q - d
            shares = np.array([q, q + d, 1 - 2 * q - d])
            counts = np.array([lost, won, n - lost - won])
            return -np.sum(np.where(counts > 0, counts * np.log(np.maximum(shares, 1e-300)), 0))
        low, high = max(0.0, -d), (1 - d) / 2
        q = optimize.minimize_scalar(negative_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
        return (won - lost - n * d) / np.sqrt(n * (2 * q + d * (1 - d)))
    z = stats.norm.ppf(0.975)
    point = (won - lost) / n
    return (optimize.brentq(lambda d: statistic(d) - z, -1 + 1e-9, point - 1e-9),
            optimize.brentq(lambda d: statistic(d) + z, point + 1e-9, 1 - 1e-9))


random = np.random.Generator(np.random.PCG64(7))
golden = {"wilson": [], "mean": [], "paired": []}
for right, n in [(0, 1), (1, 1), (0, 10), (7, 10), (648, 1000), (999, 1000), (1000, 1000), (3, 7), (50000, 100000)]:
    interval = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    golden["wilson"].append([right, n, interval.low, interval.high])
for n in (2, 5, 100):
    values = random.normal(3, 2, n).round(4)
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    golden["mean"].append({"values": values.tolist(), "low": low, "high": high})
for n, p, q in [(40, 0.5, 0.9), (200, 0.6, 0.65), (30, 0.5, 0.5), (500, 0.8, 0.7)]:
    a = (random.random(n) < p).astype(int)
    b = np.where(random.random(n) < 0.6, a, random.random(n) < q).astype(int)
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    p_value = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    low, high = tango(only_a, only_b, n)
    golden["paired"].append({"a": a.tolist(), "b": b.tolist(), "p": p_value, "low": low, "high": high})
golden["tango"] = [[lost, won, n, *tango(lost, won, n)] for lost, won, n in
                   [(0, 0, 10), (0, 0, 204), (1, 0, 44), (5, 4, 204), (0, 12, 30), (60, 2, 400), (3, 3, 6), (25, 25, 1000)]]
a = random.normal(0, 1, 60).round(4)
b = (a + random.normal(0.2, 0.6, 60)).round(4)
test = stats.permutation_test((b - a,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", n_resamples=200000, rng=np.random.default_rng(1))
boot = stats.bootstrap((b - a,), np.mean, n_resamples=100000, method="percentile", rng=np.random.default_rng(1)).confidence_interval
golden["paired"].append({"a": a.tolist(), "b": b.tolist(), "p": test.pvalue, "low": boot.low, "high": boot.high, "real": True})
print(json.dumps(golden))
