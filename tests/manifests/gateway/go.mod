// Says which Envoy Gateway the shipped files are read by; tests/manifests/setup.sh builds in a copy of it.
module manifests/gateway

go 1.26

require github.com/envoyproxy/gateway v1.9.1
