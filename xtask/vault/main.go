// A server with the transit engine for the tests: HashiCorp Vault's own core, engine and HTTP API, built from the
// modules that it is made of, in a line that is under the MPL-2.0. All it keeps is in memory.
//
// Usage: vault LISTEN CERT KEY DIRECTORY. Into the directory it writes `root-token`, and `unseal-key` in base64.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// registry has the one engine that the tests use.
type registry struct{}

func (registry) Contains(name string, kind consts.PluginType) bool {
	return name == "transit" && kind == consts.PluginTypeSecrets
}

func (r registry) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	return func() (interface{}, error) { return transit.Factory, nil }, r.Contains(name, kind)
}

func (r registry) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeSecrets {
		return []string{"transit"}
	}
	return nil
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func run(listen, cert, key, directory string) error {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        storage,
		Logger:          logger,
		LogicalBackends: map[string]logical.Factory{"transit": transit.Factory},
		BuiltinRegistry: registry{},
		DisableMlock:    true,
	})
	if err != nil {
		return err
	}
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: one, RecoveryConfig: &vault.SealConfig{}})
	if err != nil {
		return err
	}
	unsealKey := made.SecretShares[0]
	if _, err := core.Unseal(append([]byte(nil), unsealKey...)); err != nil {
		return err
	}
	files := map[string]string{
		"root-token": made.RootToken,
		"unseal-key": base64.StdEncoding.EncodeToString(unsealKey),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core})
	fmt.Fprintln(os.Stderr, "ready")
	return http.ListenAndServeTLS(listen, cert, key, handler)
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: vault LISTEN CERT KEY DIRECTORY")
	}
	log.Fatal(run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]))
}
