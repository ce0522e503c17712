// Command deviceplugin stands in for NVIDIA's device plugin: it registers the machine's GPUs, which are device nodes of the
// machine room's making, with the kubelet.
//
// As the real one it sees what the container runtime shows it, ends with an error if that is nothing, names devices in
// NVIDIA_VISIBLE_DEVICES, upon which the runtime brings them into the container, and registers anew when the kubelet
// has begun anew, which removes its socket.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	devices  = "/dev/nvidia[0-9]*"
	// A device's id is this and its number, as the machine room's container runtime takes it.
	prefix = "GPU-"
	// The kubelet gives a plugin ten seconds to answer; it listens at once.
	patience = 10 * time.Second
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ids := find()
	if len(ids) == 0 {
		log.Fatalf("no GPUs: nothing is called %s", devices)
	}
	for ctx.Err() == nil {
		if err := serve(ctx, ids); err != nil {
			log.Fatal(err)
		}
	}
}

func find() []string {
	paths, _ := filepath.Glob(devices) // an error is one of the pattern
	ids := []string{}
	for _, path := range paths {
		ids = append(ids, prefix+strings.TrimPrefix(path, "/dev/nvidia"))
	}
	sort.Strings(ids)
	return ids
}

// serve returns when the kubelet has begun anew, or when the context is done.
func serve(ctx context.Context, ids []string) error {
	socket := filepath.Join(api.DevicePluginPath, "nvidia-gpu.sock")
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	ended := make(chan struct{})
	api.RegisterDevicePluginServer(server, &plugin{ids: ids, ended: ended})
	go server.Serve(listener)
	defer server.Stop()
	defer close(ended)
	if err := register(ctx, filepath.Base(socket)); err != nil {
		return err
	}
	log.Printf("registered %d of %s: %s", len(ids), resource, strings.Join(ids, " "))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
			if _, err := os.Stat(socket); os.IsNotExist(err) {
				return nil
			}
		}
	}
}

func register(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: endpoint, ResourceName: resource}
	if _, err := api.NewRegistrationClient(connection).Register(ctx, request, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("the kubelet does not register %s: %w", resource, err)
	}
	return nil
}

type plugin struct {
	api.UnimplementedDevicePluginServer
	ids   []string
	ended chan struct{}
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch tells the devices once: they stay healthy.
func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	listed := &api.ListAndWatchResponse{}
	for _, id := range p.ids {
		listed.Devices = append(listed.Devices, &api.Device{ID: id, Health: api.Healthy})
	}
	if err := stream.Send(listed); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-p.ended:
	}
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		envs := map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")}
		answer.ContainerResponses = append(answer.ContainerResponses, &api.ContainerAllocateResponse{Envs: envs})
	}
	return answer, nil
}
