package mmdb

import "strings"

// countries of each continent, as GeoNames and with it MaxMind count them; for databases
// that do not say the continent.
var countries = func() map[string]string {
	all := map[string]string{}
	for continent, list := range map[string]string{
		"AF": `AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW
			SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW`,
		"AN": `AQ BV GS HM TF`,
		"AS": `AE AF AM AZ BD BH BN BT CC CN GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA
			SA SG SY TH TJ TM TR TW UZ VN YE`,
		"EU": `AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO
			PL PT RO RS RU SE SI SJ SK SM UA VA XK`,
		"NA": `AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US VC VG VI`,
		"OC": `AS AU CK CX FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TL TO TV UM VU WF WS`,
		"SA": `AR BO BR CL CO EC FK GF GY PE PY SR UY VE`,
	} {
		for c := range strings.FieldsSeq(list) {
			all[c] = continent
		}
	}
	return all
}()

// Continent is the continent of a country by its ISO 3166-1 code; "": not known.
func Continent(country string) string { return countries[country] }

// subdivisions are the codes (ISO 3166-2) of regions that maps in use name by code and
// flat databases by name: of the United States and of Canada.
var subdivisions = func() map[string]string {
	all := map[string]string{}
	for country, list := range map[string]string{
		"US": `AL Alabama,AK Alaska,AZ Arizona,AR Arkansas,CA California,CO Colorado,CT Connecticut,DE Delaware,DC District of Columbia,
			FL Florida,GA Georgia,HI Hawaii,ID Idaho,IL Illinois,IN Indiana,IA Iowa,KS Kansas,KY Kentucky,LA Louisiana,ME Maine,MD Maryland,
			MA Massachusetts,MI Michigan,MN Minnesota,MS Mississippi,MO Missouri,MT Montana,NE Nebraska,NV Nevada,NH New Hampshire,
			NJ New Jersey,NM New Mexico,NY New York,NC North Carolina,ND North Dakota,OH Ohio,OK Oklahoma,OR Oregon,PA Pennsylvania,
			RI Rhode Island,SC South Carolina,SD South Dakota,TN Tennessee,TX Texas,UT Utah,VT Vermont,VA Virginia,WA Washington,
			WV West Virginia,WI Wisconsin,WY Wyoming`,
		"CA": `AB Alberta,BC British Columbia,MB Manitoba,NB New Brunswick,NL Newfoundland and Labrador,NT Northwest Territories,
			NS Nova Scotia,NU Nunavut,ON Ontario,PE Prince Edward Island,QC Quebec,SK Saskatchewan,YT Yukon`,
	} {
		for entry := range strings.SplitSeq(list, ",") {
			code, name, _ := strings.Cut(strings.TrimSpace(entry), " ")
			all[country+" "+name] = code
		}
	}
	return all
}()
