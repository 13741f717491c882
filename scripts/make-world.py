#!/usr/bin/env python3
"""Makes geo/picture/world.bin, the outlines of countries, of npm's world-atlas.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    scripts/make-world.py package/countries-110m.json geo/picture/world.bin

The data is Natural Earth's (naturalearthdata.com, public domain), 1:110,000,000. Countries
are named by ISO 3166-1; disputed ones without a code have "--". Antarctica is left out. geo/picture/world.go draws
the format.
"""
import json
import sys

# ISO 3166-1: numeric code, two letters.
CODES = dict(p.split("=") for p in """
004=AF 008=AL 010=AQ 012=DZ 024=AO 031=AZ 032=AR 036=AU 040=AT 044=BS 050=BD 051=AM 056=BE 064=BT 068=BO 070=BA 072=BW 076=BR 084=BZ 090=SB
096=BN 100=BG 104=MM 108=BI 112=BY 116=KH 120=CM 124=CA 140=CF 144=LK 148=TD 152=CL 156=CN 158=TW 170=CO 178=CG 180=CD 188=CR 191=HR 192=CU
196=CY 203=CZ 204=BJ 208=DK 214=DO 218=EC 222=SV 226=GQ 231=ET 232=ER 233=EE 238=FK 242=FJ 246=FI 250=FR 260=TF 262=DJ 266=GA 268=GE 270=GM
275=PS 276=DE 288=GH 300=GR 304=GL 320=GT 324=GN 328=GY 332=HT 340=HN 348=HU 352=IS 356=IN 360=ID 364=IR 368=IQ 372=IE 376=IL 380=IT 384=CI
388=JM 392=JP 398=KZ 400=JO 404=KE 408=KP 410=KR 414=KW 417=KG 418=LA 422=LB 426=LS 428=LV 430=LR 434=LY 440=LT 442=LU 450=MG 454=MW 458=MY
466=ML 478=MR 484=MX 496=MN 498=MD 499=ME 504=MA 508=MZ 512=OM 516=NA 524=NP 528=NL 540=NC 548=VU 554=NZ 558=NI 562=NE 566=NG 578=NO 586=PK
591=PA 598=PG 600=PY 604=PE 608=PH 616=PL 620=PT 624=GW 626=TL 630=PR 634=QA 642=RO 643=RU 646=RW 682=SA 686=SN 688=RS 694=SL 703=SK 704=VN
705=SI 706=SO 710=ZA 716=ZW 724=ES 728=SS 729=SD 732=EH 740=SR 748=SZ 752=SE 756=CH 760=SY 762=TJ 764=TH 768=TG 780=TT 784=AE 788=TN 792=TR
795=TM 800=UG 804=UA 807=MK 818=EG 826=GB 834=TZ 840=US 854=BF 858=UY 860=UZ 862=VE 887=YE 894=ZM
""".split())
UNIT = 100  # of a degree


def uvarint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def varint(n):
    return uvarint(n << 1 if n >= 0 else (-n << 1) - 1)


def main(source, target):
    with open(source) as f:
        topology = json.load(f)
    scale, translate = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((round((x * scale[0] + translate[0]) * UNIT), round((y * scale[1] + translate[1]) * UNIT)))
        arcs.append(points)

    def ring(numbers):
        points = []
        for n in numbers:
            part = arcs[n] if n >= 0 else arcs[~n][::-1]
            points += part[1:] if points else part
        kept = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
        return kept[:-1] if kept[0] == kept[-1] else kept

    def clip(points, edge, keep):
        """Cuts a ring along a meridian (Sutherland, Hodgman 1974)."""
        out = []
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
            if keep(ax):
                out.append((ax, ay))
            if keep(ax) != keep(bx):
                out.append((edge, round(ay + (by - ay) * (edge - ax) / (bx - ax))))
        return out

    def parts(points):
        """The parts of a ring on either side of the antimeridian, which it may cross."""
        half, unwrapped, turn = 180 * UNIT, [], 0
        for i, (x, y) in enumerate(points):
            if i and x - points[i - 1][0] > half:
                turn -= 2 * half
            elif i and x - points[i - 1][0] < -half:
                turn += 2 * half
            unwrapped.append((x + turn, y))
        all = []
        for shift in (-2 * half, 0, 2 * half):
            part = [(x + shift, y) for x, y in unwrapped]
            part = clip(clip(part, half, lambda x: x <= half), -half, lambda x: x >= -half) if part else part
            if len(set(x for x, _ in part)) > 1:
                all.append(part)
        return all

    countries = []
    for g in topology["objects"]["countries"]["geometries"]:
        code = CODES[g["id"]] if g.get("id") else "--"
        if code == "AQ":  # around a pole, and not drawn
            continue
        polygons = g["arcs"] if g["type"] == "MultiPolygon" else [g["arcs"]]
        rings = [part for polygon in polygons for r in polygon for part in parts(ring(r))]
        countries.append((code, [r for r in rings if len(r) >= 3]))
    countries.sort(key=lambda c: (c[0], c[1]))
    out = bytearray(b"zcworld1") + uvarint(len(countries))
    for code, rings in countries:
        out += code.encode() + uvarint(len(rings))
        for r in rings:
            out += uvarint(len(r))
            x = y = 0
            for px, py in r:
                out += varint(px - x) + varint(py - y)
                x, y = px, py
    with open(target, "wb") as f:
        f.write(out)


main(*sys.argv[1:])
