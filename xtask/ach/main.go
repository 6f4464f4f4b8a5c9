// A second reader and writer of ACH files for the tests: moov-io/ach.
//
// Usage: ach read < FILE prints what it reads as JSON, or {"error": "..."}. ach returns and ach changes print files
// with a return for each code, or a notification of change for each.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/moov-io/ach"
)

func read(in io.Reader, out io.Writer) error {
	file, err := ach.NewReader(in).Read()
	if err == nil {
		err = file.Validate()
	}
	if err != nil {
		return json.NewEncoder(out).Encode(map[string]string{"error": err.Error()})
	}
	return json.NewEncoder(out).Encode(file)
}

// header is that of a batch which comes from the receiving institution.
func header(class string) *ach.BatchHeader {
	header := ach.NewBatchHeader()
	header.ServiceClassCode = ach.MixedDebitsAndCredits
	header.CompanyName = "ACME INC"
	header.CompanyIdentification = "1234567890"
	header.StandardEntryClassCode = class
	header.CompanyEntryDescription = "PURCHASE"
	header.EffectiveEntryDate = "261123"
	header.ODFIIdentification = "02100002"
	return header
}

func entry(code, amount, at int, category string) *ach.EntryDetail {
	entry := ach.NewEntryDetail()
	entry.TransactionCode = code
	entry.SetRDFI("091000019")
	entry.DFIAccountNumber = "12345678"
	entry.Amount = amount
	entry.IdentificationNumber = fmt.Sprintf("ORDER %d", at)
	entry.IndividualName = "Paul Jones"
	entry.SetTraceNumber("02100002", at)
	entry.Category = category
	entry.AddendaRecordIndicator = 1
	return entry
}

func write(out io.Writer, batch ach.Batcher) error {
	if err := batch.Create(); err != nil {
		return err
	}
	header := ach.NewFileHeader()
	header.ImmediateDestination = "091000019"
	header.ImmediateOrigin = "021000021"
	header.FileCreationDate = "261124"
	header.FileCreationTime = "0930"
	header.ImmediateDestinationName = "FIRST BANK"
	header.ImmediateOriginName = "OPERATOR"
	file := ach.NewFile()
	file.SetHeader(header)
	file.AddBatch(batch)
	if err := file.Create(); err != nil {
		return err
	}
	return ach.NewWriter(out).Write(file)
}

func returns(out io.Writer) error {
	batch, err := ach.NewBatch(header(ach.PPD))
	if err != nil {
		return err
	}
	for at := 1; at <= 85; at++ {
		code := fmt.Sprintf("R%02d", at)
		if ach.LookupReturnCode(code) == nil || (at > 60 && at < 80) {
			continue
		}
		returned := entry(ach.CheckingReturnNOCDebit, 1000+at, at, ach.CategoryReturn)
		addenda := ach.NewAddenda99()
		addenda.ReturnCode = code
		addenda.OriginalTrace = fmt.Sprintf("09100001%07d", at)
		addenda.OriginalDFI = "02100002"
		addenda.TraceNumber = returned.TraceNumber
		returned.Addenda99 = addenda
		batch.AddEntry(returned)
	}
	return write(out, batch)
}

func changes(out io.Writer) error {
	batch, err := ach.NewBatch(header(ach.COR))
	if err != nil {
		return err
	}
	data := &ach.CorrectedData{
		AccountNumber: "1918171614", RoutingNumber: "021000021", Name: "Paul Jones", TransactionCode: 37, Identification: "A-17",
	}
	for at, code := range []string{"C01", "C02", "C03", "C04", "C05", "C06", "C07", "C09"} {
		change := entry(ach.CheckingReturnNOCDebit, 0, at+1, ach.CategoryNOC)
		addenda := ach.NewAddenda98()
		addenda.ChangeCode = code
		addenda.OriginalTrace = fmt.Sprintf("09100001%07d", at+1)
		addenda.OriginalDFI = "02100002"
		addenda.CorrectedData = ach.WriteCorrectionData(code, data)
		addenda.TraceNumber = change.TraceNumber
		change.Addenda98 = addenda
		batch.AddEntry(change)
	}
	return write(out, batch)
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: ach read|returns|changes")
	}
	var err error
	switch os.Args[1] {
	case "read":
		err = read(os.Stdin, os.Stdout)
	case "returns":
		err = returns(os.Stdout)
	case "changes":
		err = changes(os.Stdout)
	default:
		err = fmt.Errorf("%s is none of read, returns and changes", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}
