package main

// The agent reads its node's object and writes that object's status; a policy of
// the API server confines it to its own. The reviews are of who scrapes it.
//
// +kubebuilder:rbac:groups=prefetch.cloudimage.dev,resources=nodeimagecaches,verbs=get;list;watch
// +kubebuilder:rbac:groups=prefetch.cloudimage.dev,resources=nodeimagecaches/status,verbs=patch
// +kubebuilder:rbac:groups="",namespace=cloudimage-sources,resources=secrets;configmaps,verbs=get
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
