// What a Go program without any settings of its own sees of the account: its version of the SDK, its own ARN, and the buckets.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	identity, err := sts.NewFromConfig(settings).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		log.Fatal(err)
	}
	listed, err := s3.NewFromConfig(settings).ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("AWS SDK for Go", aws.SDKVersion)
	fmt.Println(aws.ToString(identity.Arn))
	for _, bucket := range listed.Buckets {
		fmt.Println(aws.ToString(bucket.Name))
	}
}
