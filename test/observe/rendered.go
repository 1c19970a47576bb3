package observe

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// object is what the chart sets of the Prometheus operator's PodMonitor and PrometheusRule, and this package reads.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		Selector            struct{ MatchLabels map[string]string }
		PodMetricsEndpoints []endpoint
		Groups              []any
	}
}

type endpoint struct {
	Port, Scheme  string
	TLSConfig     map[string]bool
	Authorization *struct {
		Credentials struct{ Name, Key string }
	}
	Relabelings []struct {
		SourceLabels []string
		TargetLabel  string
	}
}

// Rendered is what the chart has for Prometheus.
type Rendered struct {
	monitors []object
	groups   []any
}

// ReadRendered reads what `helm template` printed.
func ReadRendered(manifest string) (*Rendered, error) {
	r := &Rendered{}
	for document := range strings.SplitSeq(manifest, "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			return nil, fmt.Errorf("read the manifest: %w", err)
		}
		switch o.Kind {
		case "PodMonitor":
			r.monitors = append(r.monitors, o)
		case "PrometheusRule":
			r.groups = append(r.groups, o.Spec.Groups...)
		}
	}
	if len(r.monitors) == 0 || len(r.groups) == 0 {
		return nil, errors.New("the chart rendered no PodMonitor or no PrometheusRule")
	}
	return r, nil
}

// Hasten lets an alert fire after another time than the chart says.
func (r *Rendered) Hasten(alert, after string) error {
	for _, group := range r.groups {
		fields, _ := group.(map[string]any)
		rules, _ := fields["rules"].([]any)
		for _, rule := range rules {
			if fields, ok := rule.(map[string]any); ok && fields["alert"] == alert {
				fields["for"] = after
				return nil
			}
		}
	}
	return fmt.Errorf("the chart has no alert %s", alert)
}

// section is a part of Prometheus' configuration.
type section = map[string]any

// rules is the file that a PrometheusRule becomes.
func (r *Rendered) rules() ([]byte, error) { return yaml.Marshal(section{"groups": r.groups}) }

// config is what the Prometheus operator makes of the PodMonitors, as far as they go, but that the Pods and the token are in files.
func (r *Rendered) config(interval string) ([]byte, error) {
	var jobs []section
	for _, monitor := range r.monitors {
		for i := range monitor.Spec.PodMetricsEndpoints {
			jobs = append(jobs, monitor.job(i))
		}
	}
	return yaml.Marshal(section{
		"global":     section{"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
		"rule_files": []string{rulesFile}, "scrape_configs": jobs,
	})
}

func (o *object) job(index int) section {
	one, labels := o.Spec.PodMetricsEndpoints[index], o.Spec.Selector.MatchLabels
	relabel := []section{
		{"source_labels": []string{"__meta_kubernetes_pod_phase"}, "regex": "(Failed|Succeeded)", "action": "drop"},
		{"source_labels": []string{"__meta_kubernetes_pod_container_port_name"}, "regex": one.Port, "action": "keep"},
		{"source_labels": []string{"__meta_kubernetes_pod_name"}, "target_label": "pod"},
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		relabel = append(relabel, section{"source_labels": []string{labelOf(key)}, "regex": regexp.QuoteMeta(labels[key]), "action": "keep"})
	}
	for _, more := range one.Relabelings {
		relabel = append(relabel, section{"source_labels": more.SourceLabels, "target_label": more.TargetLabel})
	}
	job := section{
		"job_name": o.Metadata.Namespace + "/" + o.Metadata.Name, "scheme": one.Scheme, "relabel_configs": relabel,
		"file_sd_configs": []section{{"files": []string{targetsFile}}},
	}
	if one.TLSConfig != nil {
		job["tls_config"] = section{"insecure_skip_verify": one.TLSConfig["insecureSkipVerify"]}
	}
	if one.Authorization != nil {
		job["authorization"] = section{"credentials_file": tokenFile}
	}
	return job
}
