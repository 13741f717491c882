package tree

import "fmt"

// TrialPath is the path of the change that is tried (trial.Trial): one at a time. JudgementPath is
// how far it is (trial.Judgement), WordPath what a person said of it (trial.Word).
func TrialPath(dataset string) string     { return Trials + dataset + "/trial" }
func JudgementPath(dataset string) string { return Trials + dataset + "/judgement" }
func WordPath(dataset string) string      { return Trials + dataset + "/word" }

// AnsweredPrefix is the prefix of which hosts have answered a trial (trial.Answered), spread over
// AnsweredBuckets nodes.
func AnsweredPrefix(dataset string) string { return Trials + dataset + "/answered/" }

// AnsweredBuckets is how many nodes say who answered: of 10,000 hosts with names of 40 octets each
// has 7 KiB, of 64 that it may have.
const AnsweredBuckets = 64

// AnsweredPath is one of them.
func AnsweredPath(dataset string, bucket int) string {
	return fmt.Sprintf("%s%02d", AnsweredPrefix(dataset), bucket)
}

// AnsweredBucket is the one that a host is in.
func AnsweredBucket(host string) int { return bucketOf(host, AnsweredBuckets) }

// TrialPartsPrefix is the prefix of the parts of a composition of a trial, with a final slash;
// AllTrialParts that of all of a dataset. They are not below Trials: who watches gets those it
// needs.
func TrialPartsPrefix(dataset string, number uint64) string {
	return fmt.Sprintf("%s%020d/", AllTrialParts(dataset), number)
}

// AllTrialParts: see TrialPartsPrefix.
func AllTrialParts(dataset string) string { return "/trialparts/" + dataset + "/" }

// TrialPartPath is the path of a part.
func TrialPartPath(dataset string, number uint64, n int) string {
	return fmt.Sprintf("%s%06d", TrialPartsPrefix(dataset, number), n)
}

// OffersPrefix is the prefix of what hosts are offered to put on top, with a final slash: of what
// they follow anyway. OfferPath is the path of the signed offer of a trial.
func OffersPrefix(dataset string) string { return DatasetPrefix(dataset) + "offers/" }

// OfferPath: see OffersPrefix.
func OfferPath(dataset string) string { return OffersPrefix(dataset) + "trial" }
