package picture

import "math"

// The Equal Earth projection (Šavrič, Patterson, Jenny: The Equal Earth map projection,
// IJGIS 33(3), 2018): areas are as they are on the globe, so that a colour's share of the
// picture is its share of the land.
const (
	equalA1 = 1.340264
	equalA2 = -0.081106
	equalA3 = 0.000893
	equalA4 = 0.003796
)

var equalM = math.Sqrt(3) / 2

// equalEarth gives x and y of a place in degrees, y to the north; the globe has radius 1.
func equalEarth(longitude, latitude float64) point {
	t := math.Asin(equalM * math.Sin(latitude*math.Pi/180))
	t2 := t * t
	t6 := t2 * t2 * t2
	return point{
		longitude * math.Pi / 180 * math.Cos(t) / (equalM * (equalA1 + 3*equalA2*t2 + t6*(7*equalA3+9*equalA4*t2))),
		t * (equalA1 + equalA2*t2 + t6*(equalA3+equalA4*t2)),
	}
}

// The part of the world that is drawn: no Antarctica, which has no users to speak of.
const (
	south = -57
	north = 84
)

// onPage gives a place on the page, in tenths of a pixel: the map is mapWidth wide and
// begins below the title.
func onPage(longitude, latitude float64) point {
	p := equalEarth(longitude, latitude)
	scale := mapWidth / (2 * equalEarth(180, 0).x)
	return point{margin + mapWidth/2 + scale*p.x, mapTop + scale*(equalEarth(0, north).y-p.y)}
}

// mapHeight is that of the map on the page.
func mapHeight() float64 { return onPage(0, south).y - mapTop }
