// Measures how long each PoP takes for this user, once in many page loads, and reports it.
// docs/beacon.md says what is collected. RATE is put in where it is served.
(() => {
  const w = window, n = navigator, s = document.currentScript;
  // Whoever does not want to be measured is not: neither asked for nor counted.
  if (!s || n.globalPrivacyControl || (n.doNotTrack || w.doNotTrack) == 1 || Math.random() >= __RATE__) return;
  const base = s.src.replace(/[^/]*$/, ""), options = { credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" };

  // One fetch, and how long it took from the request to the first octet of the response: a
  // round trip, once a connection is there.
  const time = async (url) => {
    const from = performance.now(), r = await fetch(url, { ...options, signal: AbortSignal.timeout(5000) });
    const text = (await r.text()).trim().slice(0, 63), took = performance.now() - from;
    const e = performance.getEntriesByName(url)[0];
    // Without Timing-Allow-Origin the browser says 0 for what lies between.
    return [r.ok && (e && e.requestStart ? e.responseStart - e.requestStart : took), text];
  };

  const run = async () => {
    const r = await fetch(base + "start", options);
    if (r.status != 200) return;
    const { t, n: names, u } = await r.json(), m = [];
    // One after the other: they must not take each other's line.
    for (const name of names) {
      try {
        const url = "//" + t + "." + name + u;
        const full = new URL(url, location.href).href;
        await time(full + "?0"); // opens the connection
        let [best, pop] = await time(full + "?1");
        const [again] = await time(full + "?2");
        if (again && again < best) best = again;
        if (best > 0) m.push([name, +best.toFixed(2), pop]);
      } catch {} // a PoP that is down is no reason to end
    }
    if (m[0]) n.sendBeacon(base + "report", JSON.stringify({ t, m }));
  };
  const later = () => setTimeout(() => run().catch(() => {}), 2000);
  document.readyState == "complete" ? later() : w.addEventListener("load", later);
})();
