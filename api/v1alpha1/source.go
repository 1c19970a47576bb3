package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// ImageFormat is how the bytes of an image are laid out.
// +kubebuilder:validation:Enum=Auto;Qcow2;Raw;Opaque
type ImageFormat string

const (
	// FormatAuto takes qcow2 and raw images, and refuses what seems to be neither, such as archives and text.
	FormatAuto ImageFormat = "Auto"
	// FormatQcow2 is a QEMU copy-on-write image, version 2 or 3, without a backing file.
	FormatQcow2 ImageFormat = "Qcow2"
	// FormatRaw is a plain disk image, also if its bytes look like something else; it is no image of another format.
	FormatRaw ImageFormat = "Raw"
	// FormatOpaque is any sequence of bytes; nothing is looked at.
	FormatOpaque ImageFormat = "Opaque"
)

// ImageEncryption is how the format of an image encrypts the guest's data. More values
// may follow, so it has no list of them that an older CRD would hold a newer agent to.
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([A-Z][A-Za-z0-9]*)?$`
type ImageEncryption string

const (
	// EncryptionLUKS is a qcow2 image with LUKS, or a raw disk that is a LUKS volume.
	EncryptionLUKS ImageEncryption = "LUKS"
	// EncryptionAES is a qcow2 image with its old AES encryption.
	EncryptionAES ImageEncryption = "AES"
)

// ImageSource says where the bytes of an image come from. Exactly one member is set.
type ImageSource struct {
	// http downloads the image from an HTTP or HTTPS server.
	// Servers that answer Range requests are read over several connections at once.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`
}

// HTTPSource is an object on an HTTP or HTTPS server.
type HTTPSource struct {
	// url is the address of the image: http:// or https://, at most 1024
	// characters, without user name or password. An http:// URL needs a digest.
	// The host is written in ASCII, a name in other letters in its xn-- form; the
	// port is 1 to 65535. Spaces and other letters in path and query are encoded, and
	// a % that begins no escape. The URL is no secret: every node's agent can read it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	URL string `json:"url,omitempty"`

	// secretRef names a Secret in the operator's source namespace with the
	// credentials for this URL. It needs an https:// URL.
	// The Secret must list the host in its annotation
	// prefetch.cloudimage.dev/allowed-hosts.
	// +optional
	SecretRef *ObjectReference `json:"secretRef,omitempty"`

	// caBundleRef names a ConfigMap in the operator's source namespace whose key
	// ca.crt holds PEM certificates to trust for this URL, besides the system's.
	// +optional
	CABundleRef *ObjectReference `json:"caBundleRef,omitempty"`
}

// ObjectReference names an object in the operator's source namespace.
type ObjectReference struct {
	// name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// DownloadPolicy limits one pull on one node.
type DownloadPolicy struct {
	// connections is the most HTTP connections that one pull opens, 1 to 64.
	// +optional
	// +default=8
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	Connections int32 `json:"connections,omitempty"`

	// maxBytesPerSecond limits the rate of one pull on one node: a whole number of
	// bytes from 1 to below 8Ei, for example 50Mi or 12.5Mi. Absent: no limit.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	MaxBytesPerSecond *resource.Quantity `json:"maxBytesPerSecond,omitempty"`

	// stallTimeoutSeconds is how long a pull may go without one new byte before
	// it is given up and tried again later, 5 to 3600 seconds.
	// +optional
	// +default=60
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=3600
	StallTimeoutSeconds int32 `json:"stallTimeoutSeconds,omitempty"`
}
