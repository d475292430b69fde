// The Go program of docs/tutorial-windows.md: it shows the credentials of a profile, and lists the account's buckets.
//
// It knows a region and a profile, and nothing of where credentials come from. It prints secrets, as a first program of
// this kind does: run it with credentials that expire, and keep what it prints to yourself.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	log.SetFlags(0)
	region := flag.String("region", "us-east-1", "the region to ask")
	profile := flag.String("profile", "tutorial", "a profile of the shared config file")
	flag.Parse()
	if err := run(context.Background(), *region, *profile); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, region, profile string) error {
	settings, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithSharedConfigProfile(profile))
	if err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	credentials, err := settings.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("the credentials: %w", err)
	}
	fmt.Println("Access Key:", credentials.AccessKeyID)
	fmt.Println("Secret Key:", credentials.SecretAccessKey)
	fmt.Println("Session Token:", credentials.SessionToken)
	listed, err := s3.NewFromConfig(settings).ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil {
		return fmt.Errorf("the buckets: %w", err)
	}
	for index, bucket := range listed.Buckets {
		fmt.Printf("Bucket %d: %s\n", index+1, aws.ToString(bucket.Name))
	}
	return nil
}
